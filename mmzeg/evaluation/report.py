"""The report of a test: its results and everything that decides them."""

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

# By the names of both OpenMMLab stacks; packages that are not installed are left out.
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
# Config fields that decide the results.
FIELDS = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')


def make_report(cfg: Config, model: nn.Module, metrics: dict[str, float], evaluators: Iterable) -> dict:
    """Return a report for JSON, which ``tools/analysis_tools/compare_results.py`` reads.

    Args:
        cfg (Config): The config of the test.
        model (nn.Module): The tested model.
        metrics (dict[str, float]): The runner's results, in percent.
        evaluators (Iterable): The runner's metrics; the report lists the per-class results of ``ZeroShotMIoU``.

    Returns:
        dict: ``metrics``, ``classes``, ``checkpoint``, ``config_hash``, ``clip``, ``packages`` and ``config``.
    """
    fields = {name: cfg.get(name) for name in FIELDS}
    fields = Config({name: value for name, value in fields.items() if value is not None})
    classes = [row for metric in evaluators if isinstance(metric, ZeroShotMIoU) for row in metric.per_class]
    # A model without weights has no checkpoint.
    path = cfg.load_from
    has_file = path is not None and Path(path).is_file()
    return dict(
        metrics=_finite(metrics),
        classes=[_finite(row) for row in classes],
        checkpoint=dict(path=path, hash=content_hash(Path(path)) if has_file else None),
        config_hash=hashlib.sha256(fields.pretty_text.encode()).hexdigest(),
        clip={name: clip.fingerprint() for name, clip in _clips(model)},
        packages=dict(_versions(), python=platform.python_version()),
        config=fields.to_dict(),
    )


def _finite(row: dict) -> dict:
    """Return a row with None for NaN, which JSON does not have: the IoU of a class without ground truth."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _clips(model: nn.Module) -> Iterable[tuple[str, CLIP]]:
    """Return the CLIP models of backbone, classifier and scorer, by their owners' names."""
    model = unwrap(model)
    classifier = getattr(getattr(model, 'decode_head', None), 'classifier', None)
    owners = dict(
        backbone=getattr(getattr(model, 'backbone', None), 'clip', None),
        text_encoder=getattr(classifier, 'text_encoder', None),
        scorer=getattr(getattr(model, 'scorer', None), 'clip', None),
    )
    return ((name, clip) for name, clip in owners.items() if isinstance(clip, CLIP))


def _versions() -> dict[str, str]:
    """Return the versions of the installed packages."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
