from mmzeg.utils.config_files import list_models

from .inferencer import ZeroShotInferencer

__all__ = ['ZeroShotInferencer', 'list_models']
