from .assigners import HungarianAssigner
from .classifiers import CLIPTextClassifier
from .fusion import OpinionFusion
from .heads import PerPixelHead, ZegFormerHead
from .scorers import CLIPCropScorer
from .segmentors import PerPixelSegmentor, ZegFormer

__all__ = [
    'CLIPCropScorer',
    'CLIPTextClassifier',
    'HungarianAssigner',
    'OpinionFusion',
    'PerPixelHead',
    'PerPixelSegmentor',
    'ZegFormer',
    'ZegFormerHead',
]
