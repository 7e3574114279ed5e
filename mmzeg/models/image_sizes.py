"""Heights and widths of an image on its way through the network: padded, without padding, original."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of one image, each as (height, width) in pixels.

    Args:
        padded (Sequence[int]): Size of the padded network input.
        valid (Sequence[int]): Size of the resized image within the padding.
        original (Sequence[int]): Size of the image before resizing.
    """

    padded: Sequence[int]
    valid: Sequence[int]
    original: Sequence[int]

    @classmethod
    def of(cls, inputs: Tensor, meta: dict) -> 'ImageSizes':
        """Read the sizes of an image from padded inputs (..., H, W) and mmseg's meta information."""
        return cls(padded=inputs.shape[-2:], valid=valid_size(meta, inputs), original=meta['ori_shape'][:2])


def valid_size(meta: dict, inputs: Tensor) -> tuple[int, int]:
    """Return height and width of the image within padded inputs (..., H, W), from mmseg's meta information."""
    _, right, _, bottom = meta.get('img_padding_size') or meta.get('padding_size') or (0, 0, 0, 0)
    return inputs.shape[-2] - bottom, inputs.shape[-1] - right
