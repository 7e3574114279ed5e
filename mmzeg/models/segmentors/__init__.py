from .zegformer import ZegFormer

__all__ = ['ZegFormer']
