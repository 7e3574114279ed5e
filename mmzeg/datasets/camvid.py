"""CamVid: 701 street images of 480 x 360, 11 classes (Brostow et al., 2009)."""

from mmseg.datasets import BaseSegDataset

from mmzeg.datasets.named_errors import NamedErrors
from mmzeg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(NamedErrors, BaseSegDataset):
    """Images in ``images/SPLIT/*.jpg``, label maps in ``annotations/SPLIT/*.png``: values 0 to 10, 255 void.

    Args:
        img_suffix (str): Ending of image files. Defaults to ``.jpg``.
        seg_map_suffix (str): Ending of label map files. Defaults to ``.png``.
        kwargs: What mmseg's ``BaseSegDataset`` takes.
    """

    METAINFO = dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign symbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, reduce_zero_label=False, **kwargs)
