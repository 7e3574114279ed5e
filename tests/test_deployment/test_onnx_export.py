"""Exported models give what the released code gave; components and pipelines without an ONNX form are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment import OnnxRunner
from mmzeg.deployment.onnx_export import export, resize_steps, write_folder
from mmzeg.parity import MODES, zegformer_config
from mmzeg.utils.released_names import convert_released, released_tau

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/data/golden'
WORLD = ROOT / 'configs/zegformer_r18_world.py'


def golden_runner(name, folder):
    """A golden case's model as a runner, its images padded to the case's common size."""
    case = json.loads((GOLDEN / name / 'case.json').read_text())
    tensors = {key: tensor.numpy() for key, tensor in load_file(GOLDEN / name / 'tensors.safetensors').items()}
    released = load_file(GOLDEN / name / 'zegformer_official.safetensors')
    torch.save(dict(state_dict=convert_released(released)), folder / 'weights.pth')
    model = zegformer_config(case, GOLDEN / name, released_tau(released))
    model['data_preprocessor']['test_cfg'] = dict(size=[4 * side for side in tensors['pred_masks'].shape[-2:]])
    dataset = dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])
    cfg = Config(dict(model=model, test_dataloader=dict(dataset=dataset)))
    inferencer = ZeroShotInferencer(cfg, folder / 'weights.pth', device='cpu')
    export(inferencer, folder)
    return case, tensors, OnnxRunner(folder, threads=1)


@pytest.mark.parametrize('name', ['r50_single', 'r50_batch2'])
def test_golden_case(name, tmp_path, monkeypatch):
    """Within 1e-3 of the greatest magnitude; label maps on all but 0.1 % of the pixels."""
    case, golden, runner = golden_runner(name, tmp_path)

    def check(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 * np.abs(expected).max())

    np.testing.assert_allclose(runner._text['segments'], golden['text_embed_all'], atol=1e-4)
    for index, size in enumerate(case.get('out_sizes') or [case['out_size']]):
        image = golden[f'image_{index}'].transpose(1, 2, 0)
        class_logits, mask_logits, _ = runner.predict_logits(image, case['order'])
        check(class_logits, golden['pred_logits'][index])
        check(mask_logits, golden['pred_masks'][index])
        # The case's images are resized already.
        monkeypatch.setattr(runner, 'resize', lambda _, resized=image: resized)
        for mode, settings in MODES.items():
            runner.settings['clip']['crop_modes'] = [settings.get('crop_mode', 'cropmask')]
            fusion = dict(mode=settings['mode'], gamma=settings.get('gamma', case.get('gamma', 0.1)))
            result = runner(np.zeros((*size, 3), np.uint8), return_scores=True, **fusion)
            check(result['scores'][:, ::8, ::8], golden[f'sem_seg_{mode}_{index}'])
            assert (result['label_map'] == golden[f'argmax_{mode}_{index}']).mean() >= 0.999


DEFORMABLE = dict(embed_dims=64, num_heads=4, num_levels=3, num_points=2, batch_first=True)
COMPONENTS = {
    'deformable pixel decoder': dict(
        pixel_decoder=dict(
            _delete_=True,
            type='mmdet.MSDeformAttnPixelDecoder',
            norm_cfg=dict(type='GN', num_groups=8),
            act_cfg=dict(type='ReLU'),
            num_outs=3,
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=DEFORMABLE, ffn_cfg=dict(embed_dims=64))),
            positional_encoding=dict(num_feats=32, normalize=True),
        )
    ),
    'MiT': dict(
        backbone=dict(
            _delete_=True,
            type='MixVisionTransformer',
            embed_dims=8,
            num_layers=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 2],
            patch_sizes=[7, 3, 3, 3],
            sr_ratios=[8, 4, 2, 1],
        )
    ),
}


@pytest.mark.parametrize('component', COMPONENTS)
def test_other_components_take_any_size(component, tmp_path):
    fields = COMPONENTS[component]
    options = {'model.scorer': None, 'model.fusion.mode': 'seg'}
    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(options)
    model = dict(backbone=fields['backbone']) if 'backbone' in fields else dict(decode_head=fields)
    cfg.merge_from_dict(dict(model=model))
    (difference,) = export(ZeroShotInferencer(cfg, device='cpu'), tmp_path).values()
    assert difference < 1e-3
    assert not (tmp_path / 'clip.onnx').exists()
    runner = OnnxRunner(tmp_path, threads=1)
    assert runner(np.zeros((50, 70, 3), np.uint8))['label_map'].shape == (50, 70)
    with pytest.raises(ValueError, match="the exported config has no scorer: use mode='seg'"):
        runner(np.zeros((50, 70, 3), np.uint8), mode='full')


@pytest.mark.parametrize(
    'options, message',
    [
        ({'model.scorer.pruning': dict(type='mmzeg.ThresholdPruning')}, 'set model.scorer.pruning=None'),
        ({'model.scorer.clip.precision': 'bf16'}, "precision 'bf16' has no ONNX form"),
        ({'model.scorer.type': 'mmzeg.CLIPDensePoolScorer'}, 'CLIPDensePoolScorer has no ONNX form'),
    ],
)
def test_components_without_an_onnx_form_are_refused(options, message, tmp_path):
    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(options)
    if 'model.scorer.type' in options:
        del cfg.model.scorer.crop_mode, cfg.model.scorer.mask_dilation
    inferencer = ZeroShotInferencer(cfg, device='cpu')
    with pytest.raises(ValueError, match=message):
        export(inferencer, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'step, message',
    [
        (dict(type='Pad', size=(64, 64)), 'Pad of the test pipeline has no ONNX form'),
        (dict(type='Resize', scale_factor=0.5), 'Resize of the test pipeline'),
        (dict(type='ResizeShortestEdge', scale=64, max_size=99), 'ResizeShortestEdge of the test pipeline'),
        (dict(type='Resize', scale=(64, 64), interpolation='bicubic'), "interpolation 'bicubic'"),
    ],
)
def test_steps_that_the_runner_does_not_have_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        resize_steps([dict(type='LoadImageFromFile'), step, dict(type='PackSegInputs')])


def test_a_failed_export_leaves_nothing(tmp_path):
    def fill(folder):
        (folder / 'half').touch()
        raise ValueError('stopped')

    with pytest.raises(ValueError, match='stopped'):
        write_folder(tmp_path / 'out', fill)
    assert not list(tmp_path.iterdir())
