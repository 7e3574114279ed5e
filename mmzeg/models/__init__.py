from .assigners import HungarianAssigner
from .classifiers import CLIPTextClassifier
from .fusion import ScoreFusion
from .heads import PerPixelHead, ZegFormerHead
from .scorers import (
    BaseScorer,
    CLIPCropScorer,
    CLIPDensePoolScorer,
    CLIPMaskScorer,
    GuaranteedPruning,
    ThresholdPruning,
)
from .segmentors import PerPixelSegmentor, ZegFormer, ZeroShotTTAModel

__all__ = [
    'BaseScorer',
    'CLIPCropScorer',
    'CLIPDensePoolScorer',
    'CLIPMaskScorer',
    'CLIPTextClassifier',
    'GuaranteedPruning',
    'HungarianAssigner',
    'ScoreFusion',
    'PerPixelHead',
    'PerPixelSegmentor',
    'ThresholdPruning',
    'ZegFormer',
    'ZegFormerHead',
    'ZeroShotTTAModel',
]
