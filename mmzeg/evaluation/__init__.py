from .sweep import Setting, Sweep
from .zero_shot_miou import ZeroShotMIoU

__all__ = ['Setting', 'Sweep', 'ZeroShotMIoU']
