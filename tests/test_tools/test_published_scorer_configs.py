"""A config for every file in configs/_base_/scorers, as docs/en/scorers.md writes it, trained and tested on COCO."""

import json
import sys
from pathlib import Path

import pytest
import torch
from miniature_runs import SMALL_CROP, SPLITS, loaders, present
from miniatures import coco_stuff
from mmengine.config import Config
from tiny_clips import CONVNEXT, RESNET, VIT, write_clip
from tool_loading import load_tool

from mmzeg.clip import clip as clip_module

CONFIGS = Path(__file__).parents[2] / 'configs'
SCORERS = sorted((CONFIGS / '_base_/scorers').glob('*.py'))
VISIONS = dict(fc_clip_convnext=CONVNEXT, fc_clip_resnet=RESNET)
SHORT = ('train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=2')


@pytest.fixture
def run_tool(tmp_path, monkeypatch):
    """Return a function that runs a tool in this process."""
    monkeypatch.setattr(clip_module, '_LOADED', {})
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        load_tool(f'tools/{tool}').main()

    return run


def write_config(folder, path):
    """Write an experiment with the scorer of a file, a tiny CLIP and a small network; returns its file."""
    clip = write_clip(folder / 'clip', VISIONS.get(path.stem, VIT))
    if path.stem == 'mask_prompts':
        torch.save(dict(mask_embedding=torch.randn(2, 16, 64)), folder / 'prompts.pth')
    config = f"""
_base_ = [{str(CONFIGS / 'zegformer_r50_coco.py')!r}, {str(path)!r}]
clip = dict(_delete_=True, **{clip!r})
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    decode_head=dict(
        num_queries=6,
        transformer_decoder=dict(num_layers=2),
        classifier=dict(text_encoder=clip, train_prompts='single', test_prompts='single'),
    ),
    scorer=dict(_delete_=True, **dict(_base_.scorer, clip={clip!r}, prompts='single')),
)
"""
    if path.stem == 'mask_prompts':
        config += f"model['scorer']['mask_prompts'] = {str(folder / 'prompts.pth')!r}\n"
    if 'fusion' in Config.fromfile(path):
        config += "model['fusion'] = dict(_delete_=True, **_base_.fusion)\n"
    (folder / 'experiment.py').write_text(config)
    return folder / 'experiment.py'


@pytest.mark.parametrize('path', SCORERS, ids=lambda path: path.stem)
def test_training_and_test(path, run_tool, tmp_path):
    coco_stuff(tmp_path / 'data')
    config = write_config(tmp_path, path)
    fields = [
        *(f'{split}_dataloader.dataset.data_root={tmp_path / "data"}' for split in SPLITS),
        *loaders(*SPLITS),
        *SMALL_CROP,
        'optim_wrapper.type=OptimWrapper',
        'test_dataloader.dataset.pipeline.1.scale=96',
    ]
    work_dir = tmp_path / 'work'
    run_tool('train.py', config, '--work-dir', work_dir, '--cfg-options', *SHORT, *fields)
    run_tool('test.py', config, work_dir / 'iter_2.pth', '--work-dir', work_dir, '--cfg-options', *fields)
    report = json.loads((work_dir / 'report.json').read_text())
    assert len(present(report)) == 171 and report['clip']['scorer'].startswith('None:')
    # The file's own fields reached the model.
    tested = Config.fromfile(next(work_dir.glob('experiment.py')))
    published = Config.fromfile(path).scorer.to_dict()
    published.pop('mask_prompts', None)
    assert {name: tested.model.scorer[name] for name in published} == published
    assert tested.model.fusion.get('mode') == ('geometric' if path.stem.startswith('fc_clip') else 'full')
