from .clip_text_classifier import CLIPTextClassifier
from .objectness_classifier import ObjectnessClassifier

__all__ = ['CLIPTextClassifier', 'ObjectnessClassifier']
