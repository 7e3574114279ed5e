"""Symbolic functions for operators that torch.onnx does not export, or exports for the traced size only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.onnx import register_custom_op_symbolic, symbolic_helper, unregister_custom_op_symbolic

OPSET = 17


@contextmanager
def dynamic_shapes() -> Iterator[None]:
    """Register the symbolic functions below while a graph is exported, and unregister them afterwards."""
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
    """Average blocks of equal size.

    The reshape fails at runtime where a side is not a multiple of the output side: an error, not a wrong mean.
    """
    shape = g.op('Shape', x)
    size = _to_vector(g, size)
    block_size = g.op('Div', _slice(g, shape, 2, 4), size)
    # (N, C, H, W) -> (N, C, out height, block height, out width, block width)
    sides = [_slice(g, vector, axis, axis + 1) for axis in (0, 1) for vector in (size, block_size)]
    blocks = g.op('Reshape', x, g.op('Concat', _slice(g, shape, 0, 2), *sides, axis_i=0))
    return g.op('ReduceMean', blocks, axes_i=[3, 5], keepdims_i=0)


def _unflatten(g, x, dim, sizes, *_):
    """Split an axis; torch's own symbolic function turns the traced sizes of the other axes into constants."""
    rank = symbolic_helper._get_tensor_rank(x)
    dim = symbolic_helper._get_const(dim, 'i', 'dim') % rank
    shape = g.op('Shape', x)
    new_shape = [_slice(g, shape, 0, dim), _to_vector(g, sizes), _slice(g, shape, dim + 1, rank)]
    return g.op('Reshape', x, g.op('Concat', *new_shape, axis_i=0))


def _constant(g, value: list[int]):
    return g.op('Constant', value_t=torch.tensor(value))


def _slice(g, vector, start: int, end: int):
    return g.op('Slice', vector, _constant(g, [start]), _constant(g, [end]))


def _to_vector(g, sizes):
    """Return one tensor for sizes that may be a list of scalars."""
    if not symbolic_helper._is_packed_list(sizes):
        return sizes
    scalars = symbolic_helper._unpack_list(sizes)
    return g.op('Concat', *(g.op('Reshape', scalar, _constant(g, [1])) for scalar in scalars), axis_i=0)
