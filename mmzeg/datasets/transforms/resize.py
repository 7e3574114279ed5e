"""Resize as the released code does: images by Pillow's antialiased filter, label maps by the nearest pixel."""

import torch
import torch.nn.functional as F
from mmseg.datasets.transforms import Resize
from mmseg.datasets.transforms import ResizeShortestEdge as MMSegResizeShortestEdge

from mmzeg.registry import TRANSFORMS


class _Resize(Resize):
    """Resize label maps of any integer type.

    Pillow's nearest filter supports only 8 bits, and selects other pixels than detectron2 does.
    """

    def _resize_seg(self, results: dict) -> None:
        for key in results.get('seg_fields', []):
            labels = torch.from_numpy(results[key].astype('float64'))[None, None]
            width, height = results['scale']
            resized = F.interpolate(labels, size=(height, width), mode='nearest')[0, 0].numpy()
            results[key] = resized.astype(results[key].dtype)


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
