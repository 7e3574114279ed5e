from .base_scorer import BaseScorer
from .build import build_scorer
from .clip_crop_scorer import CLIPCropScorer
from .clip_dense_pool_scorer import CLIPDensePoolScorer
from .clip_mask_prompt_scorer import CLIPMaskPromptScorer
from .clip_mask_scorer import CLIPMaskScorer
from .clip_scorer import CLIPScorer
from .one_pass_scorer import OnePassScorer
from .pruning import GuaranteedPruning, ThresholdPruning

__all__ = [
    'BaseScorer',
    'CLIPCropScorer',
    'CLIPDensePoolScorer',
    'CLIPMaskPromptScorer',
    'CLIPMaskScorer',
    'CLIPScorer',
    'GuaranteedPruning',
    'OnePassScorer',
    'ThresholdPruning',
    'build_scorer',
]
