"""Resizing as the released code does: images by Pillow's antialiased filter, label maps by the nearest pixel."""

import torch
import torch.nn.functional as F
from mmseg.datasets.transforms import Resize
from mmseg.datasets.transforms import ResizeShortestEdge as MMSegResizeShortestEdge

from mmzeg.registry import TRANSFORMS


class _Resize(Resize):
    """Label maps of any integer type: Pillow's nearest takes 8 bits alone, and other pixels than detectron2's."""

    def _resize_seg(self, results: dict) -> None:
        for key in results.get('seg_fields', []):
            labels = torch.from_numpy(results[key].astype('float64'))[None, None]
            width, height = results['scale']
            found = F.interpolate(labels, size=(height, width), mode='nearest')[0, 0].numpy()
            results[key] = found.astype(results[key].dtype)


@TRANSFORMS.register_module()
class ResizeShortestEdge(MMSegResizeShortestEdge):
    """mmseg's transform with a choice of the library that resizes images, which mmseg's fixes to OpenCV.

    Args:
        scale (int | tuple[int, int]): Length of the shorter side, in pixels.
        max_size (int): Greatest length of the longer side, in pixels.
        backend (str): ``pillow`` or ``cv2``. Defaults to ``pillow``.
    """

    def __init__(self, scale: int | tuple[int, int], max_size: int, backend: str = 'pillow') -> None:
        super().__init__(scale=scale, max_size=max_size)
        # The size is already worked out; keeping the ratio would round it down a second time (512 becomes 510).
        self.resize = _Resize(scale=scale, keep_ratio=False, backend=backend)
