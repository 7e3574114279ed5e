"""A sweep over settings gives the results of single test runs."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from mmseg.utils import register_all_modules

from mmzeg.evaluation import Setting, Sweep, ZeroShotMIoU
from mmzeg.models import ScoreFusion
from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]
SCORES = ('seen_mIoU', 'unseen_mIoU', 'hIoU', 'mIoU', 'aAcc', 'mAcc')


@pytest.fixture(params=['zegformer_r18_world', 'per-pixel_r18_world'])
def world(request, tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / f'configs/{request.param}.py')
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    # Different masks and nearly equal scores: every setting then classifies pixels differently.
    model.decode_head.classifier.tau = 0.2
    if hasattr(model, 'fusion'):
        model.decode_head.mask_embed[-1].weight.data *= 30
    else:
        # Freshly initialised pixel embeddings are nearly equal: remove their common direction.
        weight = model.decode_head.pixel_decoder.mask_feature.weight.data
        weight -= weight.mean(1, keepdim=True)
        model.decode_head.classifier.projection.bias.data.zero_()
    cfg.test_dataloader.dataset.update(length=3, size=64)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return model, dataset, [pseudo_collate([dataset[0], dataset[1]]), pseudo_collate([dataset[2]])]


def run_test(model, dataset, batches):
    metric = ZeroShotMIoU()
    metric.dataset_meta = dataset.metainfo
    for batch in batches:
        with torch.no_grad():
            samples = model.test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize('world', ['zegformer_r18_world'], indirect=True)
def test_maps_equal_those_of_a_test_in_half_precision(world):
    """The networks are in half precision; scores and maps are not, in which bfloat16 would tie many classes."""
    model, _, batches = world
    model.fusion = ScoreFusion('full', 0.7, 0.0)
    batch = model.data_preprocessor(batches[0], False)
    metas = [sample.metainfo for sample in batch['data_samples']]
    sweep = Sweep(model, [Setting('full', 0.7, 0.0)])
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        seen = model.seen_mask(batch['inputs'].device)
        ((_, semantic_maps),) = sweep._semantic_maps(batch['inputs'], metas, seen)
        expected = model.encode_decode(batch['inputs'], metas)
    assert semantic_maps.dtype == torch.float32 and torch.equal(semantic_maps, expected)


def test_equals_single_runs(world):
    model, dataset, batches = world
    if hasattr(model, 'fusion'):
        settings = [
            Setting(mode, lam, gamma)
            for mode, lam in [('seg', 0.0), ('img', 0.0), ('full', 0.5), ('full', 0.9), ('unseen', 0.7)]
            for gamma in (0.0, 0.0003, 0.003, 0.01, 0.02, 0.05, 0.1, 0.3)
        ]
        settings += [
            Setting('geometric', 0.0, gamma, alpha, beta)
            for gamma in (0.0, 0.01)
            for alpha, beta in [(0.4, 0.8), (0.1, 1)]
        ]
    else:
        settings = [Setting('pixel', 0.0, gamma) for gamma in (0.0, 0.0003, 0.003, 0.01, 0.02, 0.05, 0.1, 0.3)]
    sweep = Sweep(model, settings)
    for batch in batches:
        sweep.process(batch)
    rows = sweep.results()
    assert [(row['mode'], row['lam'], row['gamma']) for row in rows] == [
        (setting.mode, setting.lam, setting.gamma) for setting in settings
    ]
    for row in rows:
        if row['mode'] == 'pixel':
            model.gamma = row['gamma']
        else:
            fields = ('mode', 'lam', 'gamma', 'alpha', 'beta')
            model.fusion = ScoreFusion(**{name: row[name] for name in fields})
        expected = run_test(model, dataset, batches)
        assert {score: row[score] for score in SCORES} == pytest.approx(expected, abs=1e-6)
    assert len({row['aAcc'] for row in rows}) > 2
