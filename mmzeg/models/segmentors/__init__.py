from .per_pixel_segmentor import PerPixelSegmentor
from .zegformer import ZegFormer
from .zero_shot_segmentor import ZeroShotSegmentor

__all__ = ['PerPixelSegmentor', 'ZegFormer', 'ZeroShotSegmentor']
