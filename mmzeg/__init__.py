"""ZegFormer (Decoupling Zero-Shot Semantic Segmentation, CVPR 2022) as an MMSegmentation plugin."""

__version__ = '0.1.0'
