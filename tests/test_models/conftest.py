"""What tests of whole models share."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.utils import register_all_modules


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The world's model config without pretrained backbone, with a cache of its own."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    register_all_modules()
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs/zegformer_r18_world.py').model
    cfg.backbone.init_cfg = None
    return cfg
