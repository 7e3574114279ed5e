from .zero_shot_miou import ZeroShotMIoU

__all__ = ['ZeroShotMIoU']
