"""A training that is stopped and resumed ends as one that is not; its files have names beyond ASCII."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmseg.utils import register_all_modules
from PIL import Image

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_camvid.py'
# OneDL's MMEngine, when it resumes, skips images without loading them: the others are augmented otherwise.
LOADS_SKIPPED_IMAGES = not hasattr(_InfiniteDataloaderIterator, 'skip_iter')
LOSSES = ('loss', 'decode.loss_cls', 'decode.loss_mask', 'decode.loss_dice', 'grad_norm')


@pytest.fixture
def config(tmp_path):
    """A config of a small training on three images in a folder whose name is not ASCII."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    root = tmp_path / 'Straße 猫'
    rng = np.random.default_rng(0)
    for kind, suffix in (('images', 'jpg'), ('labels', 'png')):
        (root / kind).mkdir(parents=True)
        for index in range(3):
            size = (96, 128, 3) if kind == 'images' else (96, 128)
            values = rng.integers(0, 255 if kind == 'images' else 11, size, dtype=np.uint8)
            Image.fromarray(values).save(root / kind / f'öффне {index}.{suffix}')
    cfg = Config.fromfile(CONFIG)
    loader = cfg.train_dataloader
    pipeline = loader.dataset.pipeline
    if not LOADS_SKIPPED_IMAGES:
        resize = dict(type='Resize', scale=(96, 96))
        fixed = [transform for transform in pipeline if not transform.type.startswith(('Random', 'PhotoMetric'))]
        pipeline = [*fixed[:2], resize, *fixed[2:]]
    loader.batch_size = 2
    loader.dataset = dict(
        type='mmzeg.FolderDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        labels=cfg.seen_classes,
        pipeline=pipeline,
    )
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 2
    cfg.randomness = dict(seed=0)
    cfg.log_level = 'WARNING'
    return cfg


def train(config, work_dir, num_iterations, resume=False):
    """Train; return the logged values of every iteration, and the weights."""
    cfg = config.copy()
    cfg.work_dir = str(work_dir)
    cfg.resume = resume
    cfg.train_cfg.max_iters = num_iterations
    # The schedule is that of the longer training.
    cfg.experiment_name = f'{work_dir.name}_{num_iterations}'
    # Visualizers are shared by name, and write into the folder of the first run.
    cfg.visualizer.name = cfg.experiment_name
    runner = Runner.from_cfg(cfg)
    runner.train()
    lines = (work_dir / runner.timestamp / 'vis_data/scalars.json').read_text().splitlines()
    return {values['step']: values for values in map(json.loads, lines)}, runner.model.state_dict()


def test_a_resumed_training_has_the_same_losses(config, tmp_path):
    expected, expected_weights = train(config, tmp_path / 'complète', 4)
    first, _ = train(config, tmp_path / 'arrêté', 2)
    resumed, weights = train(config, tmp_path / 'arrêté', 4, resume=True)
    assert sorted(first) == [1, 2] and sorted(resumed) == [3, 4]
    for step, values in (first | resumed).items():
        assert [values[name] for name in LOSSES] == [expected[step][name] for name in LOSSES], step
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected_weights.items())
