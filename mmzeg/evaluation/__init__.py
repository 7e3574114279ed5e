"""Metrics over seen and unseen classes, sweeps over fusion and calibration, and what explains a result."""

from .label_map_writer import LabelMapWriter
from .sweep import Setting, Sweep
from .zero_shot_miou import ZeroShotMIoU

__all__ = ['LabelMapWriter', 'Setting', 'Sweep', 'ZeroShotMIoU']
