from .inferencer import ZeroShotInferencer

__all__ = ['ZeroShotInferencer']
