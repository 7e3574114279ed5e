"""Base class of the heads that classify by text embeddings."""

from collections.abc import Callable

import torch
from mmcv.cnn import ConvModule
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmengine.model import BaseModule, caffe2_xavier_init
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmzeg.registry import MODELS


class TextHead(BaseModule):
    """A pixel decoder and a text classifier, with the contract of an mmseg decode head (``loss``, ``predict``).

    Args:
        in_channels (list[int]): Channels of the four backbone maps, strides 4 to 32.
        feat_channels (int): Width of the pixel decoder.
        out_channels (int): Width of the pixel decoder's last map.
        pixel_decoder (dict): One of mmdet's; channels are filled in.
        classifier (dict): ``mmzeg.CLIPTextClassifier``.
        with_cp (bool): Gradient checkpointing, see ``maybe_checkpoint``. Defaults to False.
        ignore_index (int): Label value without a class. Defaults to 255.
    """

    align_corners = False  # read by mmseg, which resizes the maps; masks are resized so too, as in the released code

    def __init__(
        self,
        in_channels: list[int],
        feat_channels: int,
        out_channels: int,
        pixel_decoder: dict,
        classifier: dict,
        with_cp: bool = False,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.with_cp = with_cp
        self.ignore_index = ignore_index
        self.pixel_decoder = MODELS.build(
            dict(pixel_decoder, in_channels=in_channels, feat_channels=feat_channels, out_channels=out_channels)
        )
        self.classifier = MODELS.build(classifier)

    @property
    def num_classes(self) -> int:
        """Number C of classes at test."""
        return len(self.classifier.vocabulary)

    @property
    def out_channels(self) -> int:
        """Channels of ``predict``, under mmseg's name."""
        return self.num_classes

    def init_weights(self) -> None:
        """Initialize every convolution of the pixel decoder by Xavier, as in the released code."""
        super().init_weights()
        if self._is_pretrained:
            return
        for module in self.pixel_decoder.modules():
            if isinstance(module, ConvModule):
                caffe2_xavier_init(module.conv, bias=0)

    @property
    def _is_pretrained(self) -> bool:
        """Whether ``init_cfg`` names a file of weights, which no initialization may overwrite."""
        init_cfgs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        return any(init_cfg['type'] == 'Pretrained' for init_cfg in init_cfgs)

    def maybe_checkpoint(self, function: Callable, *args: object, **kwargs: object) -> object:
        """Call a function; with ``with_cp`` its activations are computed again for the gradient, not stored."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **kwargs)
        return function(*args, **kwargs)

    def decode_pixels(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the pixel decoder's map (B, out_channels, H/4, W/4) and its coarsest map (B, c, H/32, W/32)."""
        if isinstance(self.pixel_decoder, MSDeformAttnPixelDecoder):
            mask_features, levels = self.maybe_checkpoint(self.pixel_decoder, list(x))
            return mask_features, levels[0]  # levels are ordered from coarse to fine
        height, width = x[0].shape[-2:]
        shape = (4 * height, 4 * width)
        # Without padding in the meta information, mmdet's decoders mask none, as in the released code.
        metas = [dict(batch_input_shape=shape, img_shape=shape)] * len(x[0])
        return self.maybe_checkpoint(self.pixel_decoder, list(x), metas)

    def present_labels(self, sample) -> Tensor:
        """Return the training classes (N,) in one image's ``gt_sem_seg``.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
        """
        labels = sample.gt_sem_seg.data.unique()
        labels = labels[labels != self.ignore_index]
        names = self.classifier.train_vocabulary.names
        invalid = labels[(labels < 0) | (labels >= len(names))]
        if invalid.numel():
            raise ValueError(
                f'{sample.metainfo.get("seg_map_path", "a label map")}: label value {invalid[0].item()} reached the '
                f'loss, but training knows the {len(names)} classes 0 to {len(names) - 1} ({names[0]} to {names[-1]}): '
                'an unseen or unlisted class; give the training dataset metainfo=dict(classes=SEEN_NAMES)'
            )
        return labels
