"""Metrics over seen and unseen classes, sweeps over fusion and calibration, and what explains a result."""

from .sweep import Setting, Sweep
from .zero_shot_miou import ZeroShotMIoU

__all__ = ['Setting', 'Sweep', 'ZeroShotMIoU']
