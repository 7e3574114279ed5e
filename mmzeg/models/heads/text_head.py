"""Base class of the heads that classify by text embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
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

    def present_labels(self, label_maps: Tensor, samples: Sequence) -> list[np.ndarray]:
        """Return the training classes (N,) in every label map of a batch, ascending, on the host.

        The device is read once per batch.

        Args:
            label_maps (Tensor): (B, H, W) class indices or ``ignore_index``.
            samples (Sequence[SegDataSample]): Of the same images, for the error message.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
        """
        names = self.classifier.train_vocabulary.names
        num_classes = len(names)
        # Mark which values each image has: below 0, the classes, above the classes, ignored.
        columns = (label_maps + 1).clamp_(0, num_classes + 1)
        columns.masked_fill_(label_maps == self.ignore_index, num_classes + 2)
        is_present = label_maps.new_zeros((len(label_maps), num_classes + 3), dtype=torch.bool)
        is_present = is_present.scatter_(1, columns.flatten(1), True).cpu().numpy()
        # Refuse values that are no class.
        is_invalid = is_present[:, 0] | is_present[:, num_classes + 1]
        if is_invalid.any():
            image = int(is_invalid.argmax())
            values = label_maps[image].unique()
            values = values[values != self.ignore_index]
            value = values[(values < 0) | (values >= num_classes)][0].item()
            path = samples[image].metainfo.get('seg_map_path', 'a label map')
            raise ValueError(
                f'{path}: label value {value} reached the loss, but training knows the {num_classes} classes 0 to '
                f'{num_classes - 1} ({names[0]} to {names[-1]}): an unseen or unlisted class; give the training '
                'dataset metainfo=dict(classes=SEEN_NAMES)'
            )
        return [image_labels.nonzero()[0] for image_labels in is_present[:, 1 : num_classes + 1]]
