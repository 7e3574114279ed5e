"""SPNet with an FPN, the paper's per-pixel baseline (docs/en/method.md#per-pixel-baseline)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.heads.text_head import TextHead
from mmzeg.registry import MODELS


@MODELS.register_module()
class PerPixelHead(TextHead):
    """Classify every pixel of the pixel decoder's map by its cosine with the text embeddings.

    Args:
        in_channels (list[int]): Channels of the four backbone maps, strides 4 to 32. ``mmzeg.PerPixelSegmentor`` reads
            them from the backbone.
        feat_channels (int): Width of the pixel decoder.
        out_channels (int): Width of a pixel's embedding.
        pixel_decoder (dict): mmdet's ``PixelDecoder``; channels are filled in.
        classifier (dict): ``mmzeg.CLIPTextClassifier``; its ``in_channels`` are filled in and it has no "no object".
        loss_cls (dict): Classification loss of mmseg, which takes an ``ignore_index``.
        kwargs: See ``TextHead``.
    """

    def __init__(
        self,
        in_channels: list[int],
        feat_channels: int,
        out_channels: int,
        pixel_decoder: dict,
        classifier: dict,
        loss_cls: dict,
        **kwargs,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            feat_channels=feat_channels,
            out_channels=out_channels,
            pixel_decoder=pixel_decoder,
            classifier=dict(classifier, in_channels=out_channels, no_object=False),
            **kwargs,
        )
        self.loss_cls = MODELS.build(loss_cls)

    def forward(self, x: tuple[Tensor, ...], text: Tensor | None = None) -> Tensor:
        """Return class logits (B, C, H/4, W/4) = cosine / tau of every pixel.

        Args:
            x (tuple[Tensor]): Backbone maps (B, c_i, H / 4 / 2^i, W / 4 / 2^i).
            text (Tensor, optional): (C, d) unit text embeddings. Defaults to those of the test vocabulary.
        """
        if text is None:
            text = self.classifier.text_embeddings(training=False)
        pixel_embeddings, _ = self.decode_pixels(x)
        return self.classifier(pixel_embeddings.movedim(1, -1), text).movedim(-1, 1)

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Return probabilities (B, C, H, W) at the padded input's size, not calibrated."""
        return self._upsample(self(x)).softmax(1)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict) -> dict[str, Tensor]:
        """Return the cross-entropy ``loss_cls`` over the labelled pixels.

        Args:
            x (tuple[Tensor]): Backbone maps, see ``forward``.
            batch_data_samples (list[SegDataSample]): With ``gt_sem_seg`` (1, H, W), values in the training
                vocabulary's range or ``ignore_index``.
            train_cfg (dict): Unused; part of mmseg's contract.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
        """
        label_maps = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
        self.present_labels(label_maps, batch_data_samples)
        logits = self._upsample(self(x, self.classifier.text_embeddings(training=True)))
        return dict(loss_cls=self.loss_cls(logits, label_maps, ignore_index=self.ignore_index))

    @staticmethod
    def _upsample(logits: Tensor) -> Tensor:
        return F.interpolate(logits.float(), scale_factor=4, mode='bilinear', align_corners=False)
