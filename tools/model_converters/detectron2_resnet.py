"""Turn a ResNet that detectron2 publishes, MSRA's or torchvision's, into the names that mmseg's ResNet has.

python tools/model_converters/detectron2_resnet.py R-101.pkl resnet101_msra.pth

Nothing that is pickled in the file is run. MSRA's weights were made with images in BGR and have their stride in the
first 1 x 1 convolution; the released ZegFormer feeds them RGB and puts the stride into the 3 x 3 one, and so do our
configs.
"""

import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mmzeg.utils.model_converter import convert_file
from mmzeg.utils.plain_pickle import read_plain_pickle

_UNIT = {'branch1': 'downsample.{}', 'branch2a': 'conv1', 'branch2b': 'conv2', 'branch2c': 'conv3'}
# Batch norm with what it measured folded in: a factor and a shift.
_FOLDED = {'s': 'weight', 'b': 'bias'}


def convert(weights: object) -> dict[str, Tensor]:
    """Weights of a backbone in mmseg's names; those of a classifier are left out.

    Args:
        weights (object): What the file holds: arrays by name, perhaps under ``model`` or ``blobs``.

    Raises:
        ValueError: There is no ResNet in it.
    """
    for key in ('model', 'blobs'):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    found = {}
    for name, array in weights.items() if isinstance(weights, dict) else ():
        ours = _caffe2_name(name) or _detectron2_name(name)
        if ours is not None and isinstance(array, np.ndarray):
            found[ours] = torch.from_numpy(np.array(array))
    if 'conv1.weight' not in found or 'layer4.0.conv1.weight' not in found:
        raise ValueError('no ResNet of detectron2 in it: names like res2_0_branch2a_w or res2.0.conv1.weight expected')
    return dict(sorted((found | dict(_statistics(found))).items()))


def _caffe2_name(name: str) -> str | None:
    """MSRA's: conv1_w, res_conv1_bn_s, res2_0_branch2a_w, res2_0_branch2a_bn_s."""
    if name == 'conv1_w':
        return 'conv1.weight'
    if stem := re.fullmatch(r'res_conv1_bn_([sb])', name):
        return f'bn1.{_FOLDED[stem[1]]}'
    unit = re.fullmatch(r'res([2-5])_(\d+)_(branch1|branch2[abc])_(w|bn_s|bn_b)', name)
    if unit is None:
        return None
    stage, block, branch, kind = unit.groups()
    part = _UNIT[branch].format(0 if kind == 'w' else 1)
    if kind != 'w':
        part = part.replace('conv', 'bn')
    return f'layer{int(stage) - 1}.{block}.{part}.{"weight" if kind == "w" else _FOLDED[kind[-1]]}'


def _detectron2_name(name: str) -> str | None:
    """torchvision's, renamed by detectron2: stem.conv1.norm.weight, res2.0.shortcut.weight."""
    unit = re.fullmatch(r'(?:stem|res([2-5])\.(\d+))\.(conv\d|shortcut)(\.norm)?\.(\w+)', name)
    if unit is None:
        return None
    stage, block, conv, norm, kind = unit.groups()
    part = conv.replace('conv', 'bn') if norm else conv
    if conv == 'shortcut':
        part = f'downsample.{1 if norm else 0}'
    return f'layer{int(stage) - 1}.{block}.{part}.{kind}' if stage else f'{part}.{kind}'


def _statistics(found: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Mean 0 and variance 1 for norms into which theirs are folded, less the epsilon that mmseg adds."""
    for name, tensor in found.items():
        norm, _, kind = name.rpartition('.')
        if kind == 'bias' and f'{norm}.running_var' not in found:
            yield f'{norm}.running_mean', torch.zeros_like(tensor)
            yield f'{norm}.running_var', torch.ones_like(tensor) - 1e-5


if __name__ == '__main__':
    convert_file(__doc__, read_plain_pickle, convert)
