"""Settings, the best row, and what a config says about its evaluation."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmzeg.evaluation import Setting
from mmzeg.evaluation.loading import ignore_index_of
from mmzeg.evaluation.sweep_run import best_row, combine_settings, describe_weights, supported_modes

ROOT = Path(__file__).parents[2]


def test_modes_without_an_ensemble_have_one_lambda():
    settings = combine_settings(['seg', 'full'], [0.5, 0.9], [0.0, 0.1])
    assert settings == [
        Setting('seg', 0.0, 0.0), Setting('seg', 0.0, 0.1),
        Setting('full', 0.5, 0.0), Setting('full', 0.5, 0.1),
        Setting('full', 0.9, 0.0), Setting('full', 0.9, 0.1),
    ]  # fmt: skip
    assert combine_settings(['full'], [0.5, 0.5], [0.1]) == [Setting('full', 0.5, 0.1)]


def test_alpha_and_beta_belong_to_the_geometric_mode():
    settings = combine_settings(['full', 'geometric'], [0.5, 0.9], [0.1], [0.2, 0.4], [0.8])
    assert settings == [
        Setting('full', 0.5, 0.1), Setting('full', 0.9, 0.1),
        Setting('geometric', 0.0, 0.1, 0.2, 0.8), Setting('geometric', 0.0, 0.1, 0.4, 0.8),
    ]  # fmt: skip
    texts = [describe_weights(vars(setting)) for setting in (settings[0], settings[2], Setting('img', 0.0, 0.1))]
    assert texts == ['lambda 0.5', 'alpha 0.2, beta 0.8', '']
    with pytest.raises(ValueError, match='fusion beta'):
        Setting('geometric', 0.0, 0.1, 0.2, 1.8)


def test_modes_of_a_config():
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    assert supported_modes(cfg) == ['seg', 'img', 'full', 'unseen', 'geometric']
    cfg.model.scorer = None
    assert supported_modes(cfg) == ['seg']
    assert supported_modes(Config.fromfile(ROOT / 'configs/per-pixel_r18_world.py')) == ['pixel']


def test_no_best_row_without_a_harmonic_mean():
    rows = [dict(mode='seg', hIoU=None), dict(mode='img', hIoU=1.0), dict(mode='img', hIoU=None)]
    assert best_row(rows, 'seg') is None and best_row(rows, 'img') is rows[1]


def test_labels_that_the_metric_ignores_are_ignored():
    assert ignore_index_of(Config.fromfile(ROOT / 'configs/zegformer_r50_ade-full.py'), 'val') == 65535
    assert ignore_index_of(Config.fromfile(ROOT / 'configs/zegformer_r18_world.py'), 'val') == 255
