"""Backbones published by detectron2, converted for mmseg's ResNet."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from harmful import Harmful
from mmseg.models import ResNet
from python_runs import run_python

ROOT = Path(__file__).parents[2]


def convert(source, target, *options):
    tool = ROOT / 'tools/model_converters/detectron2_resnet.py'
    return run_python([tool, source, target, *options])


def backbone(depth, checkpoint=None):
    torch.manual_seed(0)
    model = ResNet(
        depth, norm_cfg=dict(type='BN'), init_cfg=checkpoint and dict(type='Pretrained', checkpoint=checkpoint)
    )
    model.init_weights()
    model.eval()
    return model


def caffe2_name(name):
    stage, block, layer, kind = re.fullmatch(r'layer(\d)\.(\d+)\.(\w+)\.(.*)', name).groups()
    if layer.startswith('downsample'):
        branch = 'branch1'
        is_norm = kind.startswith('1')
        kind = kind[2:]
    else:
        branch = f'branch2{"abc"[int(layer[-1]) - 1]}'
        is_norm = layer.startswith('bn')
    end = f'bn_{dict(weight="s", bias="b")[kind]}' if is_norm else 'w'
    return f'res{int(stage) + 1}_{block}_{branch}_{end}'


def test_msra_pickle_becomes_openmmlab_s_file(tmp_path):
    """All tensors of an R101; norms with folded statistics give the same output."""
    model = backbone(101)
    generator = torch.Generator().manual_seed(1)
    state = {name: torch.rand(tensor.shape, generator=generator) for name, tensor in model.state_dict().items()}
    blobs = {'pred_w': np.zeros((1000, 8)), 'lr': np.array(0.1)}
    for name, tensor in state.items():
        if 'running' in name or 'num_batches' in name:
            continue
        if name.startswith('layer'):
            blobs[caffe2_name(name)] = tensor.numpy()
        else:
            names = {'conv1.weight': 'conv1_w', 'bn1.weight': 'res_conv1_bn_s', 'bn1.bias': 'res_conv1_bn_b'}
            blobs[names[name]] = tensor.numpy()
    # In the pickle protocol of Python 2.
    (tmp_path / 'R-101.pkl').write_bytes(pickle.dumps(dict(blobs=blobs), protocol=2))
    result = convert(tmp_path / 'R-101.pkl', tmp_path / 'r101.pth')
    assert result.returncode == 0, result.stderr
    loaded = backbone(101, str(tmp_path / 'r101.pth'))
    for name, tensor in loaded.state_dict().items():
        if name.endswith('running_mean'):
            assert (tensor == 0).all()
        elif name.endswith('running_var'):
            torch.testing.assert_close(tensor + 1e-5, torch.ones_like(tensor), rtol=0, atol=0)
        elif 'num_batches' not in name:
            assert torch.equal(tensor, state[name]), name
    # The stride is in the 3 x 3 convolution, as in the released code.
    assert loaded.layer2[0].conv1.stride == (1, 1) and loaded.layer2[0].conv2.stride == (2, 2)


def test_torchvision_pickle(tmp_path):
    model = backbone(50)
    names = [
        ('layer(\\d)', lambda m: f'res{int(m[1]) + 1}'),
        ('downsample.0', 'shortcut'),
        ('downsample.1', 'shortcut.norm'),
    ]
    weights = {}
    for name, tensor in model.state_dict().items():
        if 'num_batches' in name:
            continue
        for old, new in names:
            name = re.sub(old, new, name)
        name = re.sub(r'bn(\d)', r'conv\1.norm', name)
        weights[name if name.startswith('res') else f'stem.{name}'] = tensor.numpy()
    content = dict(model=weights, __author__='torchvision', matching_heuristics=True)
    (tmp_path / 'R-50.pkl').write_bytes(pickle.dumps(content))
    assert convert(tmp_path / 'R-50.pkl', tmp_path / 'r50.pth').returncode == 0
    loaded, images = backbone(50, str(tmp_path / 'r50.pth')), torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(loaded(images), model(images), strict=True):
        assert torch.equal(ours, theirs)
    refused = convert(tmp_path / 'R-50.pkl', tmp_path / 'r50.pth')
    assert refused.returncode == 2 and 'add --overwrite' in refused.stderr


@pytest.mark.parametrize(
    'content, message',
    [(Harmful(), 'nothing of it was run'), (dict(model=dict(a=1)), 'no ResNet'), ([1], 'no ResNet of detectron2')],
)
def test_bad_pickle(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'R.pkl').write_bytes(pickle.dumps(content))
    result = convert(tmp_path / 'R.pkl', tmp_path / 'r.pth')
    assert result.returncode == 2 and message in result.stderr and not (tmp_path / 'harmed').exists()
