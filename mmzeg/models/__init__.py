from .assigners import HungarianAssigner
from .backbones import CLIPBackbone
from .classifiers import CLIPTextClassifier
from .fusion import ScoreFusion
from .heads import PerPixelHead, ZegFormerHead
from .scorers import (
    BaseScorer,
    CLIPCropScorer,
    CLIPDensePoolScorer,
    CLIPMaskPromptScorer,
    CLIPMaskScorer,
    GuaranteedPruning,
    ThresholdPruning,
)
from .segmentors import PerPixelSegmentor, ZegFormer, ZeroShotTTAModel

__all__ = [
    'BaseScorer',
    'CLIPBackbone',
    'CLIPCropScorer',
    'CLIPDensePoolScorer',
    'CLIPMaskPromptScorer',
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
