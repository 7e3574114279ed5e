"""What torch.onnx has no graph for, or only one of a fixed size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.onnx import register_custom_op_symbolic, symbolic_helper, unregister_custom_op_symbolic

OPSET = 17


@contextmanager
def dynamic_shapes() -> Iterator[None]:
    """Inside, exported graphs keep their sizes dynamic in the operators below."""
    symbolics: dict[str, Callable] = {
        'aten::adaptive_avg_pool2d': _adaptive_avg_pool2d,
        'aten::unflatten': _unflatten,
    }
    for name, symbolic in symbolics.items():
        register_custom_op_symbolic(name, symbolic, OPSET)
    try:
        yield
    finally:
        for name in symbolics:
            unregister_custom_op_symbolic(name, OPSET)


def _adaptive_avg_pool2d(g, x, size):
    """Mean of whole blocks: the reshape fails where a side is no multiple of the wanted one, rather than to differ."""
    shape = g.op('Shape', x)
    size = _vector(g, size)
    cells = g.op('Div', _part(g, shape, 2, 4), size)
    sides = [_part(g, vector, axis, axis + 1) for axis in (0, 1) for vector in (size, cells)]
    blocks = g.op('Reshape', x, g.op('Concat', _part(g, shape, 0, 2), *sides, axis_i=0))
    return g.op('ReduceMean', blocks, axes_i=[3, 5], keepdims_i=0)


def _unflatten(g, x, dim, sizes, *_):
    """torch's own, of which the exporter takes the other axes' traced sizes for constants."""
    rank = symbolic_helper._get_tensor_rank(x)
    dim = symbolic_helper._get_const(dim, 'i', 'dim') % rank
    shape = g.op('Shape', x)
    parts = [_part(g, shape, 0, dim), _vector(g, sizes), _part(g, shape, dim + 1, rank)]
    return g.op('Reshape', x, g.op('Concat', *parts, axis_i=0))


def _constant(g, value: list[int]):
    return g.op('Constant', value_t=torch.tensor(value))


def _part(g, vector, start: int, end: int):
    return g.op('Slice', vector, _constant(g, [start]), _constant(g, [end]))


def _vector(g, sizes):
    """One tensor of what may be a list of scalars."""
    if not symbolic_helper._is_packed_list(sizes):
        return sizes
    scalars = symbolic_helper._unpack_list(sizes)
    return g.op('Concat', *(g.op('Reshape', scalar, _constant(g, [1])) for scalar in scalars), axis_i=0)
