"""ZegFormer (Decoupling Zero-Shot Semantic Segmentation, CVPR 2022) as an MMSegmentation plugin."""

from mmzeg.utils.versions import check_dependencies

__version__ = '0.1.0'

check_dependencies()
