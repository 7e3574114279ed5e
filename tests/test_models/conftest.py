"""Fixtures for tests of complete models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import Tensor

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture
def world(tmp_path, monkeypatch) -> ConfigDict:
    """Return the procedural dataset's model config, without a pretrained backbone and with an empty text cache."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    register_all_modules()
    cfg = Config.fromfile(CONFIGS / 'zegformer_r18_world.py').model
    cfg.backbone.init_cfg = None
    return cfg


@pytest.fixture
def camvid_config() -> Config:
    """Return the config of ZegFormer on CamVid."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return Config.fromfile(CONFIGS / 'zegformer_r18_camvid.py')


@pytest.fixture
def camvid(camvid_config) -> ConfigDict:
    """Return the model config of ZegFormer on CamVid: fusion mode ``seg``, which needs no scorer."""
    return camvid_config.model


@pytest.fixture
def labelled_batch() -> Callable[..., tuple[Tensor, list[SegDataSample]]]:
    """Return a function that makes a training batch with one image per label value."""

    def make(*values: int, side: int = 64) -> tuple[Tensor, list[SegDataSample]]:
        """Return random inputs (B, 3, side, side), and samples whose upper half has the value; 255 below."""
        samples = []
        for value in values:
            sample = SegDataSample(metainfo=dict(img_path=f'{value}.jpg', seg_map_path=f'{value}.png'))
            labels = torch.full((1, side, side), 255)
            labels[:, : side // 2] = value
            sample.gt_sem_seg = PixelData(data=labels)
            samples.append(sample)
        return torch.randn(len(values), 3, side, side), samples

    return make
