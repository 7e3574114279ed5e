"""Graphs take sizes that were not traced; one that keeps the traced size is refused."""

import onnxruntime
import pytest
import torch
from torch import nn

from mmzeg.deployment.dynamic_shapes import dynamic_shapes
from mmzeg.deployment.onnx_graphs import check_graph, write_graph


class FixedSize(nn.Module):
    """Keeps the traced height: in a shape, or in a factor, where no runtime would fail."""

    def __init__(self, silent):
        super().__init__()
        self.silent = silent

    def forward(self, x):
        height = int(x.shape[2])
        return x * height if self.silent else x.reshape(1, 3, height, -1).cumsum(2)


@pytest.mark.parametrize('silent, message', [(True, 'differs from PyTorch by'), (False, 'returns|fails')])
def test_a_size_that_became_a_constant_is_detected(silent, message, tmp_path):
    module, path = FixedSize(silent), tmp_path / 'graph.onnx'
    write_graph(module, [torch.randn(1, 3, 8, 8)], path, dict(x={2: 'height', 3: 'width'}), ['y'])
    assert check_graph(path, module, [[torch.randn(1, 3, 8, 8)]]) < 1e-5
    with pytest.raises(ValueError, match=message):
        check_graph(path, module, [[torch.randn(1, 3, 6, 12)]])


def test_pooling_is_exact_or_fails(tmp_path):
    class Pool(nn.Module):
        def forward(self, x, y):
            return nn.functional.interpolate(x, size=y.shape[-2:], mode='area')

    path, axes = tmp_path / 'graph.onnx', {2: 'height', 3: 'width'}
    inputs = [torch.randn(1, 2, 8, 12), torch.randn(1, 2, 4, 3)]
    write_graph(Pool(), inputs, path, dict(x=axes, y={2: 'h', 3: 'w'}), ['z'])
    cases = [[torch.randn(1, 2, 20, 6), torch.randn(1, 2, 5, 6)], [torch.randn(1, 2, 9, 9), torch.randn(1, 2, 1, 3)]]
    assert check_graph(path, Pool(), cases) < 1e-5
    with pytest.raises(ValueError, match='fails on inputs 1 x 2 x 9 x 9'):
        check_graph(path, Pool(), [[torch.randn(1, 2, 9, 9), torch.randn(1, 2, 2, 3)]])


def test_the_exporters_own_symbolic_functions_are_restored():
    from torch.onnx._internal.registration import registry

    before = registry.get_function_group('aten::unflatten').get(17)
    with dynamic_shapes():
        assert registry.get_function_group('aten::unflatten').get(17) is not before
    assert registry.get_function_group('aten::unflatten').get(17) is before


def test_onnxruntime_is_new_enough_for_both_stacks():
    """Wheels before 1.19 are built for NumPy 1 only."""
    assert tuple(map(int, onnxruntime.__version__.split('.')[:2])) >= (1, 19)
