"""SPNet with an FPN, the paper's comparison at pixel level (reference "The published numbers", last line)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.heads.text_head import TextHead
from mmzeg.registry import MODELS


@MODELS.register_module()
class PerPixelHead(TextHead):
    """Names every pixel of ZegFormer's mask features by its cosine with the text embeddings.

    Args:
        in_channels (list[int]): Channels of the four backbone maps, strides 4 to 32. ``mmzeg.PerPixelSegmentor`` reads
            them from the backbone.
        feat_channels (int): Width of the pixel decoder.
        out_channels (int): Width of a pixel's embedding.
        pixel_decoder (dict): mmdet's ``PixelDecoder``; channels are filled in.
        classifier (dict): ``mmzeg.CLIPTextClassifier``; its ``in_channels`` are filled in and it has no "no object".
        loss_cls (dict): Classification loss; mmseg's, which knows an ignored label.
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
        """Logits (B, C, H/4, W/4) = cosine / tau of every pixel.

        Args:
            x (tuple[Tensor]): Backbone maps (B, c_i, H / 4 / 2^i, W / 4 / 2^i).
            text (Tensor, optional): (C, d) unit text embeddings. Defaults to those of the test vocabulary.
        """
        if text is None:
            text = self.classifier.text_embeddings(training=False)
        pixels, _ = self.decode_pixels(x)
        return self.classifier(pixels.movedim(1, -1), text).movedim(-1, 1)

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Probabilities (B, C, H, W) at the padded input's size, uncalibrated."""
        return self._at_full_size(self(x)).softmax(1)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict) -> dict[str, Tensor]:
        """Cross-entropy ``loss_cls`` over the labelled pixels.

        Args:
            x (tuple[Tensor]): Backbone maps, see ``forward``.
            batch_data_samples (list[SegDataSample]): With ``gt_sem_seg`` (1, H, W), values in the training
                vocabulary's range or ``ignore_index``.
            train_cfg (dict): Unused; mmseg's contract.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
        """
        for sample in batch_data_samples:
            self.present_labels(sample)
        logits = self._at_full_size(self(x, self.classifier.text_embeddings(training=True)))
        labels = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
        return dict(loss_cls=self.loss_cls(logits, labels, ignore_index=self.ignore_index))

    @staticmethod
    def _at_full_size(logits: Tensor) -> Tensor:
        return F.interpolate(logits.float(), scale_factor=4, mode='bilinear', align_corners=False)
