from .zegformer_head import ZegFormerHead

__all__ = ['ZegFormerHead']
