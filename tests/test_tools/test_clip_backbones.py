"""Configs whose backbone, classifier and scorer share a CLIP, trained and tested on COCO in miniature."""

import json

import open_clip
import pytest
import torch
from miniature_runs import SMALL_CROP, SPLITS, loaders, present, run
from miniatures import coco_stuff
from safetensors.torch import save_file

TEXT = dict(context_length=77, vocab_size=49408, width=16, heads=1, layers=1)
VISIONS = {
    'convnext-b': dict(timm_model_name='convnext_atto', timm_pool='', timm_proj='linear', image_size=64),
    'rn50': dict(layers=[1, 1, 1, 1], width=16, image_size=64),
}


@pytest.mark.parametrize('name', VISIONS)
def test_training_and_test(name, tmp_path):
    # A CLIP with random weights, its architecture beside them.
    config = dict(embed_dim=32, text_cfg=TEXT, vision_cfg=VISIONS[name])
    preprocess = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, tmp_path / 'clip.safetensors')
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
    ]
    for owner in ('backbone.clip', 'decode_head.classifier.text_encoder', 'scorer.clip'):
        fields += [f'model.{owner}.model=None', f'model.{owner}.pretrained={tmp_path / "clip.safetensors"}']
    short = ('train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=2')
    path = f'configs/zegformer_clip-{name}_coco.py'
    run('train.py', path, '--work-dir', tmp_path / 'work', '--cfg-options', *short, *fields)
    checkpoint = tmp_path / 'work/iter_2.pth'
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    assert saved and not any(key.startswith('backbone') for key in saved)
    run('test.py', path, checkpoint, '--work-dir', tmp_path / 'work', '--cfg-options', *fields)
    report = json.loads((tmp_path / 'work/report.json').read_text())
    assert len(present(report)) == 171
    assert len({report['clip'][owner] for owner in ('backbone', 'text_encoder', 'scorer')}) == 1
