from .assigners import HungarianAssigner
from .backbones import CLIPBackbone
from .classifiers import CLIPTextClassifier, ObjectnessClassifier
from .data_preprocessor import SegDataPreProcessor
from .execution import Execution
from .fusion import ScoreFusion
from .heads import PerPixelHead, ProposalHead, ZegFormerHead
from .proposals import FileProposals, ModelProposals
from .scorers import (
    BaseScorer,
    CLIPCropScorer,
    CLIPDensePoolScorer,
    CLIPMaskPromptScorer,
    CLIPMaskScorer,
    GuaranteedPruning,
    ThresholdPruning,
)
from .segmentors import PerPixelSegmentor, ProposalSegmentor, ZegFormer, ZeroShotTTAModel

__all__ = [
    'BaseScorer',
    'CLIPBackbone',
    'CLIPCropScorer',
    'CLIPDensePoolScorer',
    'CLIPMaskPromptScorer',
    'CLIPMaskScorer',
    'CLIPTextClassifier',
    'FileProposals',
    'Execution',
    'GuaranteedPruning',
    'HungarianAssigner',
    'ModelProposals',
    'ObjectnessClassifier',
    'PerPixelHead',
    'PerPixelSegmentor',
    'ProposalHead',
    'ProposalSegmentor',
    'ScoreFusion',
    'SegDataPreProcessor',
    'ThresholdPruning',
    'ZegFormer',
    'ZegFormerHead',
    'ZeroShotTTAModel',
]
