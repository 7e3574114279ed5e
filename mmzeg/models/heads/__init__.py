from .per_pixel_head import PerPixelHead
from .zegformer_head import ZegFormerHead

__all__ = ['PerPixelHead', 'ZegFormerHead']
