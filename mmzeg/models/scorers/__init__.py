from .clip_crop_scorer import CLIPCropScorer

__all__ = ['CLIPCropScorer']
