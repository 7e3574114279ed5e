"""A run is refused before its first iteration where labels would not stay on their pixels, by any train.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.engine import PipelineCheckHook, ensure_check_hooks
from mmzeg.engine.pipeline_check_hook import _needs_labels
from mmzeg.evaluation import LabelMapWriter, ZeroShotMIoU

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_camvid.py'
LOAD, LABELS, PACK = dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')
FLIP = dict(type='RandomFlip', prob=0.5)


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """CamVid's config on three images of two sizes, with custom hooks."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(dict(custom_hooks=[], work_dir=str(tmp_path / 'work'), log_level='ERROR'))
    cfg.visualizer.vis_backends = []
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    for split in ('train', 'val', 'test'):
        for index in range(3):
            size = (32, 64) if index else (64, 32)
            for folder, shape in (('images', (*size, 3)), ('annotations', size)):
                path = tmp_path / f'{folder}/{split}/{index}'
                path.parent.mkdir(parents=True, exist_ok=True)
                suffix = '.jpg' if folder == 'images' else '.png'
                Image.fromarray(np.zeros(shape, np.uint8)).save(path.with_suffix(suffix))
        dataloader = cfg[f'{split}_dataloader']
        dataloader.update(num_workers=0, persistent_workers=False)
        dataloader.dataset.data_root = str(tmp_path)
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    return cfg


def refuse(cfg, message, mode='train'):
    runner = Runner.from_cfg(cfg)
    iterations = []
    runner.model.train_step = lambda *args, **kwargs: iterations.append(1)
    with pytest.raises(ValueError, match=message):
        getattr(runner, mode)()
    assert not iterations


def test_training_pipeline(cfg):
    cfg.train_dataloader.dataset.pipeline = [LOAD, FLIP, LABELS, PACK]
    refuse(cfg, 'train_dataloader.dataset.pipeline: RandomFlip changes the image before LoadLabels')


def test_validation_pipeline(cfg):
    cfg.val_dataloader.dataset.pipeline = [LOAD, LABELS, FLIP, PACK]
    for mode in ('train', 'val'):
        refuse(cfg, 'val_dataloader.dataset.pipeline: RandomFlip changes labels', mode)


def test_validation_batches(cfg):
    cfg.val_dataloader.batch_size = 2
    refuse(cfg, 'val_dataloader.batch_size=2: .*0.jpg has 120 x 240 pixels and .*1.jpg 240 x 120')


def test_test_pipeline(cfg):
    cfg.test_dataloader.dataset.pipeline = [LOAD, dict(type='RandomCrop', crop_size=(20, 20)), LABELS, PACK]
    refuse(cfg, 'test_dataloader.dataset.pipeline: RandomCrop crops, rotates or pads', 'test')


def test_the_check_changes_no_result(cfg):
    """Loss and weights after an iteration are those of a training without the check, bit for bit."""
    cfg.randomness = dict(seed=3)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    weights = []
    for has_check in (True, False):
        if not has_check:
            del cfg.default_hooks['pipeline_check']
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights.append(runner.model.state_dict())
    assert not any(isinstance(hook, PipelineCheckHook) for hook in runner.hooks)
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_the_check_is_added_once(cfg):
    del cfg.default_hooks['pipeline_check']
    runner = Runner.from_cfg(cfg)
    for _ in range(2):
        ensure_check_hooks(runner)
    assert sum(isinstance(hook, PipelineCheckHook) for hook in runner.hooks) == 1


def test_metrics_that_need_labels():
    assert _needs_labels([LabelMapWriter('maps', ['images']), ZeroShotMIoU()])
    assert _needs_labels([IoUMetric()])
    assert not _needs_labels([LabelMapWriter('maps', ['images'])])
    assert not _needs_labels([IoUMetric(format_only=True, output_dir='maps')])
