"""Configs whose backbone, classifier and scorer share a CLIP, trained and tested on COCO in miniature."""

import json

import pytest
import torch
from miniature_runs import SMALL_CROP, SPLITS, loaders, present, run
from miniatures import coco_stuff
from tiny_clips import CONVNEXT, RESNET, write_clip

VISIONS = {'convnext-b': CONVNEXT, 'convnext-l': CONVNEXT, 'rn50': RESNET}


@pytest.mark.parametrize('name', VISIONS)
def test_training_and_test(name, tmp_path):
    clip = write_clip(tmp_path / 'clip', VISIONS[name])
    coco_stuff(tmp_path / 'data')
    fields = [
        *(f'{split}_dataloader.dataset.data_root={tmp_path / "data"}' for split in SPLITS),
        *loaders(*SPLITS),
        *SMALL_CROP,
        'optim_wrapper.type=OptimWrapper',
        'model.decode_head.num_queries=6',
        'model.decode_head.transformer_decoder.num_layers=2',
        'model.decode_head.pixel_decoder.encoder.num_layers=1',
        'model.scorer.prompts=single',
        'test_dataloader.dataset.pipeline.1.scale=96',
        'tta_pipeline.1.transforms.0.0.scale=96',
        'tta_pipeline.1.transforms.0.1.scale=128',
        'tta_pipeline.1.transforms.0.2.scale=64',
    ]
    for owner in ('backbone.clip', 'decode_head.classifier.text_encoder', 'scorer.clip'):
        fields += [f'model.{owner}.model=None', f'model.{owner}.pretrained={clip["pretrained"]}']
    short = ('train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=2')
    path = f'configs/zegformer_clip-{name}_coco.py'
    run('train.py', path, '--work-dir', tmp_path / 'work', '--cfg-options', *short, *fields)
    checkpoint = tmp_path / 'work/iter_2.pth'
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    assert saved and not any(key.startswith('backbone') for key in saved)
    # A test of two sizes and two flips, too.
    for tta in ([], ['--tta']):
        run('test.py', path, checkpoint, '--work-dir', tmp_path / 'work', *tta, '--cfg-options', *fields)
    report = json.loads((tmp_path / 'work/report.json').read_text())
    assert len(present(report)) == 171
    assert len({report['clip'][owner] for owner in ('backbone', 'text_encoder', 'scorer')}) == 1
