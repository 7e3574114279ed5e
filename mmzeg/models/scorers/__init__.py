from .clip_crop_scorer import CLIPCropScorer
from .clip_dense_pool_scorer import CLIPDensePoolScorer
from .clip_mask_scorer import CLIPMaskScorer
from .pruning import GuaranteedPruning, ThresholdPruning

__all__ = ['CLIPCropScorer', 'CLIPDensePoolScorer', 'CLIPMaskScorer', 'GuaranteedPruning', 'ThresholdPruning']
