"""The sizes that a picture has on its way through the network."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageSizes:
    """Heights and widths of one picture.

    Args:
        size (Sequence[int]): Of the padded input.
        valid (Sequence[int]): Of the picture inside it.
        original (Sequence[int]): Of the picture itself.
    """

    size: Sequence[int]
    valid: Sequence[int]
    original: Sequence[int]

    @classmethod
    def of(cls, inputs: Tensor, meta: dict) -> 'ImageSizes':
        """Of a picture in padded inputs (..., H, W), by mmseg's meta information."""
        return cls(inputs.shape[-2:], valid_size(meta, inputs), meta['ori_shape'][:2])


def valid_size(meta: dict, inputs: Tensor) -> tuple[int, int]:
    """Height and width of the picture inside padded inputs (..., H, W), from mmseg's meta information."""
    left, right, top, bottom = meta.get('img_padding_size') or meta.get('padding_size') or (0, 0, 0, 0)
    return inputs.shape[-2] - bottom, inputs.shape[-1] - right
