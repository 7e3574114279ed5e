"""Graphs that give what the released code gave, at sizes that were not traced; what has no graph is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file
from torch import nn

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment.onnx_runner import OnnxRunner

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/data/golden'
WORLD = ROOT / 'configs/zegformer_r18_world.py'
sys.path += [str(ROOT / 'tools/deployment'), str(ROOT / 'tools/analysis_tools')]

import compare_onnx  # noqa: E402
import embed_names  # noqa: E402
import export_onnx  # noqa: E402
from check_parity import MODES, zegformer_config  # noqa: E402
from dynamic_shapes import dynamic_shapes  # noqa: E402

from mmzeg.utils.released_names import convert_released, released_tau  # noqa: E402


def golden_runner(name, folder):
    """A golden case's model as a runner, its pictures padded to the case's common size."""
    case = json.loads((GOLDEN / name / 'case.json').read_text())
    tensors = {key: tensor.numpy() for key, tensor in load_file(GOLDEN / name / 'tensors.safetensors').items()}
    released = load_file(GOLDEN / name / 'zegformer_official.safetensors')
    torch.save(dict(state_dict=convert_released(released)), folder / 'weights.pth')
    model = zegformer_config(case, GOLDEN / name, released_tau(released))
    model['data_preprocessor']['test_cfg'] = dict(size=[4 * side for side in tensors['pred_masks'].shape[-2:]])
    dataset = dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])
    cfg = Config(dict(model=model, test_dataloader=dict(dataset=dataset)))
    inferencer = ZeroShotInferencer(cfg, folder / 'weights.pth', device='cpu')
    export_onnx.export(inferencer, folder)
    return case, tensors, OnnxRunner(folder, threads=1)


@pytest.mark.parametrize('name', ['r50_single', 'r50_batch2'])
def test_golden_case(name, tmp_path, monkeypatch):
    """Within 1e-3 of the greatest magnitude; label maps on all but 0.1 % of the pixels."""
    case, golden, runner = golden_runner(name, tmp_path)

    def check(ours, theirs):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * np.abs(theirs).max())

    np.testing.assert_allclose(runner._text['segments'], golden['text_embed_all'], atol=1e-4)
    for index, size in enumerate(case.get('out_sizes') or [case['out_size']]):
        picture = golden[f'image_{index}'].transpose(1, 2, 0)
        class_logits, mask_logits, _ = runner.predict_logits(picture, case['order'])
        check(class_logits, golden['pred_logits'][index])
        check(mask_logits, golden['pred_masks'][index])
        # The case's pictures are resized already.
        monkeypatch.setattr(runner, 'resized', lambda _, resized=picture: resized)
        for mode, settings in MODES.items():
            runner.settings['clip']['styles'] = [settings.get('style', 'cropmask')]
            asked = dict(mode=settings['mode'], gamma=settings.get('gamma', case.get('gamma', 0.1)))
            found = runner(np.zeros((*size, 3), np.uint8), return_scores=True, **asked)
            check(found['scores'][:, ::8, ::8], golden[f'sem_seg_{mode}_{index}'])
            assert (found['label_map'] == golden[f'argmax_{mode}_{index}']).mean() >= 0.999


DEFORMABLE = dict(embed_dims=64, num_heads=4, num_levels=3, num_points=2, batch_first=True)
PARTS = {
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


@pytest.mark.parametrize('part', PARTS)
def test_other_parts_take_any_size(part, tmp_path):
    fields = PARTS[part]
    options = {'model.scorer': None, 'model.fusion.mode': 'seg'}
    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(options)
    model = dict(backbone=fields['backbone']) if 'backbone' in fields else dict(decode_head=fields)
    cfg.merge_from_dict(dict(model=model))
    (difference,) = export_onnx.export(ZeroShotInferencer(cfg, device='cpu'), tmp_path).values()
    assert difference < 1e-3
    assert not (tmp_path / 'clip.onnx').exists()
    runner = OnnxRunner(tmp_path, threads=1)
    assert runner(np.zeros((50, 70, 3), np.uint8))['label_map'].shape == (50, 70)
    with pytest.raises(ValueError, match="the exported config had no scorer: use mode='seg'"):
        runner(np.zeros((50, 70, 3), np.uint8), mode='full')


def test_exported_compared_and_given_names(tmp_path, monkeypatch, capsys):
    few = ['model.decode_head.num_queries=6', 'model.decode_head.classifier.test_prompts=single']

    def run(tool, *arguments, options=()):
        monkeypatch.setattr(
            sys, 'argv', [tool.__name__, str(WORLD), *map(str, arguments), '--cfg-options', *few, *options]
        )
        try:
            tool.main()
        except SystemExit as stopped:
            return stopped.code, capsys.readouterr().err.splitlines()[-1]
        return 0, capsys.readouterr().out

    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(dict(option.split('=') for option in few[1:]) | {'model.decode_head.num_queries': 6})
    # Of other weights a pixel may lie so near the edge of a mask that rounding gives it to one side or the other.
    torch.manual_seed(0)
    model = ZeroShotInferencer(cfg, device='cpu').model
    weights, folder = tmp_path / 'random.pth', tmp_path / 'deep/exported'
    torch.save(dict(state_dict=model.state_dict()), weights)
    code, out = run(export_onnx, weights, '--out', folder)
    assert code == 0 and out.count('differs from PyTorch by') == 2
    assert [path.name for path in folder.parent.iterdir()] == ['exported']
    code, out = run(export_onnx, weights, '--out', folder)
    assert code == 2 and out.endswith('is there already; name a new folder')

    options = ['test_dataloader.dataset.size=96', 'test_dataloader.dataset.length=2']
    code, out = run(compare_onnx, weights, folder, '--repeats', 1, options=options)
    rows = [line.split('|')[1:-1] for line in out.splitlines() if '96 x 96' in line]
    assert code == 0 and len(rows) == 2
    assert all(float(difference) < 1e-3 for row in rows for difference in row[1:5])
    assert all(float(row[5]) >= 99.9 for row in rows)

    code, _ = run(embed_names, folder, 'sky', 'zebra', 'zebra', 'sofa, couch')
    with np.load(folder / 'names.npz') as names:
        assert code == 0 and names['names'].tolist() == [*model.vocabulary.names, 'zebra', 'sofa, couch']
        classifier, scorer = model.decode_head.classifier, model.scorer
        wanted = classifier.text_encoder.text_embeddings(['sofa, couch'], 'single')[0]
        np.testing.assert_allclose(names['segments'][-1], wanted, atol=1e-6)
        wanted = scorer.clip.text_embeddings(['sofa, couch'], scorer.prompts)[0]
        np.testing.assert_allclose(names['clip'][-1], wanted, atol=1e-6)
    for other in ("model.scorer.prompts=['this is {} there']", 'model.scorer=None'):
        code, out = run(embed_names, folder, 'horse', options=[other, 'model.fusion.mode=seg'])
        assert code == 2 and 'another embedding' in out
    code, out = run(embed_names, tmp_path, 'horse')
    assert code == 2 and 'names.npz: not there' in out


@pytest.mark.parametrize(
    'options, message',
    [
        ({'model.scorer.pruning': dict(type='mmzeg.ThresholdPruning')}, 'set model.scorer.pruning=None'),
        ({'model.scorer.clip.precision': 'bf16'}, "precision 'bf16' has no ONNX form"),
        ({'model.scorer.type': 'mmzeg.CLIPDensePoolScorer'}, 'CLIPDensePoolScorer has no ONNX form'),
    ],
)
def test_parts_without_a_graph_are_refused(options, message, tmp_path):
    cfg = Config.fromfile(WORLD)
    cfg.merge_from_dict(options)
    if 'model.scorer.type' in options:
        del cfg.model.scorer.grow, cfg.model.scorer.style
    inferencer = ZeroShotInferencer(cfg, device='cpu')
    with pytest.raises(ValueError, match=message):
        export_onnx.export(inferencer, tmp_path)
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
def test_steps_that_the_runner_does_not_take_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        export_onnx.resize_steps([dict(type='LoadImageFromFile'), step, dict(type='PackSegInputs')])


class Baked(nn.Module):
    """Keeps the traced height: in a shape, or in a factor, where no runtime would complain."""

    def __init__(self, silently):
        super().__init__()
        self.silently = silently

    def forward(self, x):
        height = int(x.shape[2])
        return x * height if self.silently else x.reshape(1, 3, height, -1).cumsum(2)


@pytest.mark.parametrize('silently, message', [(True, 'differs from PyTorch by'), (False, 'gives|fails')])
def test_a_size_that_became_a_constant_is_found(silently, message, tmp_path):
    module, path = Baked(silently), tmp_path / 'graph.onnx'
    export_onnx.write_graph(module, [torch.randn(1, 3, 8, 8)], path, dict(x={2: 'height', 3: 'width'}), ['y'])
    assert export_onnx.check_graph(path, module, [[torch.randn(1, 3, 8, 8)]]) < 1e-5
    with pytest.raises(ValueError, match=message):
        export_onnx.check_graph(path, module, [[torch.randn(1, 3, 6, 12)]])


def test_pooling_is_exact_or_fails(tmp_path):
    class Pool(nn.Module):
        def forward(self, x, y):
            return nn.functional.interpolate(x, size=y.shape[-2:], mode='area')

    path, axes = tmp_path / 'graph.onnx', {2: 'height', 3: 'width'}
    inputs = [torch.randn(1, 2, 8, 12), torch.randn(1, 2, 4, 3)]
    export_onnx.write_graph(Pool(), inputs, path, dict(x=axes, y={2: 'h', 3: 'w'}), ['z'])
    cases = [[torch.randn(1, 2, 20, 6), torch.randn(1, 2, 5, 6)], [torch.randn(1, 2, 9, 9), torch.randn(1, 2, 1, 3)]]
    assert export_onnx.check_graph(path, Pool(), cases) < 1e-5
    with pytest.raises(ValueError, match='fails on inputs 1 x 2 x 9 x 9'):
        export_onnx.check_graph(path, Pool(), [[torch.randn(1, 2, 9, 9), torch.randn(1, 2, 2, 3)]])


def test_operators_are_the_exporters_own_again():
    from torch.onnx._internal.registration import registry

    before = registry.get_function_group('aten::unflatten').get(17)
    with dynamic_shapes():
        assert registry.get_function_group('aten::unflatten').get(17) is not before
    assert registry.get_function_group('aten::unflatten').get(17) is before


def test_a_missing_package_and_a_failed_export_leave_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['export_onnx.py', str(WORLD), 'none.pth', '--out', str(tmp_path / 'out')])
    with pytest.raises(SystemExit):
        export_onnx.main()
    assert 'none.pth: no such checkpoint' in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(export_onnx, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        export_onnx.main()
    assert stopped.value.code == 2 and 'pip install onnx onnxruntime' in capsys.readouterr().err

    def fill(folder):
        (folder / 'half').touch()
        raise ValueError('stopped')

    with pytest.raises(ValueError, match='stopped'):
        export_onnx.write_folder(tmp_path / 'out', fill)
    assert not list(tmp_path.iterdir())


def test_onnxruntime_is_new_enough_for_both_stacks():
    """Wheels before 1.19 are built for NumPy 1 alone."""
    assert tuple(map(int, onnxruntime.__version__.split('.')[:2])) >= (1, 19)
