"""Resize as the released code does: images by Pillow's antialiased filter, label maps by the nearest pixel."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.datasets.transforms import Resize
from mmseg.datasets.transforms import ResizeShortestEdge as MMSegResizeShortestEdge

from mmzeg.registry import TRANSFORMS

# Height plus width up to which torch resizes by a kernel that rounds in single precision, not in double.
SMALL_OUTPUT = 128


class _Resize(Resize):
    """Resize label maps of any integer type.

    Pillow's nearest filter supports only 8 bits, and selects other pixels than detectron2 does.
    """

    def _resize_seg(self, results: dict) -> None:
        width, height = results['scale']
        for key in results.get('seg_fields', []):
            labels = results[key]
            is_small = height + width <= SMALL_OUTPUT
            rows = nearest_pixels(labels.shape[0], height, is_small)
            columns = nearest_pixels(labels.shape[1], width, is_small)
            results[key] = labels.take(rows, axis=0).take(columns, axis=1)


@TRANSFORMS.register_module()
class ResizeShortestEdge(MMSegResizeShortestEdge):
    """Resize to a length of the shorter side, like mmseg's transform, with a choice of library for images.

    Args:
        scale (int | tuple[int, int]): Length of the shorter side, in pixels.
        max_size (int): Greatest length of the longer side, in pixels.
        backend (str): ``pillow`` or ``cv2`` (mmseg's fixed choice). Defaults to ``pillow``.
    """

    def __init__(self, scale: int | tuple[int, int], max_size: int, backend: str = 'pillow') -> None:
        super().__init__(scale=scale, max_size=max_size)
        # The scale is already the exact size: keep_ratio=True would round it down a second time (512 becomes 510).
        self.resize = _Resize(scale=scale, keep_ratio=False, backend=backend)


@lru_cache(maxsize=256)
def nearest_pixels(old_length: int, new_length: int, is_small: bool) -> np.ndarray:
    """Return which of ``old_length`` pixels torch's nearest filter selects for each of ``new_length``.

    detectron2, and so the released code, resizes label maps by this filter in double precision.

    Args:
        old_length (int): Height or width of a label map.
        new_length (int): The same after resizing.
        is_small (bool): Whether the resized label map is small, for which torch has another kernel: see
            ``SMALL_OUTPUT``.
    """
    pixels = torch.arange(old_length, dtype=torch.float64)[None, None, :, None]
    other_length = 1 if is_small else SMALL_OUTPUT
    return F.interpolate(pixels, size=(new_length, other_length), mode='nearest')[0, 0, :, 0].long().numpy()
