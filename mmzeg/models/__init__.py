from .assigners import HungarianAssigner
from .classifiers import CLIPTextClassifier
from .fusion import OpinionFusion
from .heads import ZegFormerHead
from .scorers import CLIPCropScorer
from .segmentors import ZegFormer

__all__ = ['CLIPCropScorer', 'CLIPTextClassifier', 'HungarianAssigner', 'OpinionFusion', 'ZegFormer', 'ZegFormerHead']
