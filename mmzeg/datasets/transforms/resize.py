"""Resizing by Pillow's antialiased filter, as the released code does."""

from mmseg.datasets.transforms import ResizeShortestEdge as MMSegResizeShortestEdge

from mmzeg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeShortestEdge(MMSegResizeShortestEdge):
    """mmseg's transform with a choice of the library that resizes, which mmseg's fixes to OpenCV.

    Args:
        scale (int | tuple[int, int]): Length of the shorter side, in pixels.
        max_size (int): Greatest length of the longer side, in pixels.
        backend (str): ``pillow`` or ``cv2``. Defaults to ``pillow``.
    """

    def __init__(self, scale: int | tuple[int, int], max_size: int, backend: str = 'pillow') -> None:
        super().__init__(scale=scale, max_size=max_size)
        self.resize.backend = backend
        # The size is already worked out; keeping the ratio would round it down a second time (512 becomes 510).
        self.resize.keep_ratio = False
