"""Convert a ResNet published by detectron2 (MSRA's or torchvision's) into the names of mmseg's ResNet.

python tools/model_converters/detectron2_resnet.py R-101.pkl resnet101_msra.pth

No pickled code of the file is run. MSRA's weights were trained with images in BGR and have their stride in the first
1 x 1 convolution; the released ZegFormer feeds them RGB and puts the stride into the 3 x 3 convolution, and so do
mmzeg's configs.
"""

import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mmzeg.utils.model_converter import convert_file
from mmzeg.utils.restricted_pickle import read_plain_pickle

_LAYERS = {'branch1': 'downsample.{}', 'branch2a': 'conv1', 'branch2b': 'conv2', 'branch2c': 'conv3'}
# MSRA folded the batch norm's statistics into a factor and a shift.
_FOLDED = {'s': 'weight', 'b': 'bias'}


def convert(weights: object) -> dict[str, Tensor]:
    """Convert the weights of a backbone into mmseg's names; those of a classifier are left out.

    Args:
        weights (object): The content of the file: arrays by name, possibly under ``model`` or ``blobs``.

    Returns:
        dict: State dict of mmseg's ResNet.

    Raises:
        ValueError: The content has no ResNet.
    """
    for key in ('model', 'blobs'):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    state = {}
    for name, array in weights.items() if isinstance(weights, dict) else ():
        our_name = _from_caffe2(name) or _from_detectron2(name)
        if our_name is not None and isinstance(array, np.ndarray):
            state[our_name] = torch.from_numpy(np.array(array))
    if 'conv1.weight' not in state or 'layer4.0.conv1.weight' not in state:
        raise ValueError('no ResNet of detectron2 in it: names like res2_0_branch2a_w or res2.0.conv1.weight expected')
    return dict(sorted((state | dict(_missing_statistics(state))).items()))


def _from_caffe2(name: str) -> str | None:
    """Convert a name of MSRA's: conv1_w, res_conv1_bn_s, res2_0_branch2a_w, res2_0_branch2a_bn_s."""
    if name == 'conv1_w':
        return 'conv1.weight'
    if stem := re.fullmatch(r'res_conv1_bn_([sb])', name):
        return f'bn1.{_FOLDED[stem[1]]}'
    match = re.fullmatch(r'res([2-5])_(\d+)_(branch1|branch2[abc])_(w|bn_s|bn_b)', name)
    if match is None:
        return None
    stage, block, branch, kind = match.groups()
    is_conv = kind == 'w'
    layer = _LAYERS[branch].format(0 if is_conv else 1)
    if is_conv:
        return f'layer{int(stage) - 1}.{block}.{layer}.weight'
    return f'layer{int(stage) - 1}.{block}.{layer.replace("conv", "bn")}.{_FOLDED[kind[-1]]}'


def _from_detectron2(name: str) -> str | None:
    """Convert a name of torchvision's ResNet in detectron2's form: stem.conv1.norm.weight, res2.0.shortcut.weight."""
    match = re.fullmatch(r'(?:stem|res([2-5])\.(\d+))\.(conv\d|shortcut)(\.norm)?\.(\w+)', name)
    if match is None:
        return None
    stage, block, conv, norm, kind = match.groups()
    layer = conv.replace('conv', 'bn') if norm else conv
    if conv == 'shortcut':
        layer = f'downsample.{1 if norm else 0}'
    return f'layer{int(stage) - 1}.{block}.{layer}.{kind}' if stage else f'{layer}.{kind}'


def _missing_statistics(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield mean 0 and variance 1, less the epsilon that mmseg adds, for norms with folded statistics."""
    for name, tensor in state.items():
        norm, _, kind = name.rpartition('.')
        if kind == 'bias' and f'{norm}.running_var' not in state:
            yield f'{norm}.running_mean', torch.zeros_like(tensor)
            yield f'{norm}.running_var', torch.ones_like(tensor) - 1e-5


if __name__ == '__main__':
    convert_file(__doc__, read_plain_pickle, convert)
