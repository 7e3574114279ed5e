"""A test's figures beside everything that decides them."""

import hashlib
import math
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmzeg.clip import CLIP
from mmzeg.clip.text_cache import content_hash
from mmzeg.evaluation.zero_shot_miou import ZeroShotMIoU
from mmzeg.utils.unwrap import unwrap

# By both stacks' names; those that are not installed are left out.
PACKAGES = (
    'mmzeg',
    'torch',
    'torchvision',
    'numpy',
    'open_clip_torch',
    'timm',
    *(f'{stack}{name}' for stack in ('', 'onedl-') for name in ('mmcv', 'mmengine', 'mmsegmentation', 'mmdet')),
    'onedl-mmdetection',
)
# What the figures depend on.
FIELDS = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')


def make_report(cfg: Config, model: nn.Module, metrics: dict[str, float], evaluators: Iterable) -> dict:
    """A report that JSON can hold, for ``tools/analysis_tools/compare_results.py``.

    Args:
        cfg (Config): As it was run.
        model (nn.Module): As it was tested.
        metrics (dict[str, float]): What the runner returned, in percent.
        evaluators (Iterable): Its metrics; the per-class figures of ``ZeroShotMIoU`` are taken.
    """
    fields = {name: cfg.get(name) for name in FIELDS}
    fields = Config({name: value for name, value in fields.items() if value is not None})
    classes = [row for metric in evaluators if isinstance(metric, ZeroShotMIoU) for row in metric.per_class]
    checkpoint = Path(cfg.load_from)
    return dict(
        metrics=_finite(metrics),
        classes=[_finite(row) for row in classes],
        checkpoint=dict(path=cfg.load_from, hash=content_hash(checkpoint) if checkpoint.is_file() else None),
        config_hash=hashlib.sha256(fields.pretty_text.encode()).hexdigest(),
        clip={name: clip.fingerprint() for name, clip in _clips(model)},
        packages=dict(_versions(), python=platform.python_version()),
        config=fields.to_dict(),
    )


def _finite(row: dict) -> dict:
    """JSON has no NaN, which the IoU of a class is that no label holds."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _clips(model: nn.Module) -> Iterable[tuple[str, CLIP]]:
    model = unwrap(model)
    classifier = getattr(getattr(model, 'decode_head', None), 'classifier', None)
    owners = dict(
        text_encoder=getattr(classifier, 'text_encoder', None),
        scorer=getattr(getattr(model, 'scorer', None), 'clip', None),
    )
    return ((name, clip) for name, clip in owners.items() if isinstance(clip, CLIP))


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
