"""A limit of the memory that a network takes while it is built."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_FACTORIES = tuple(getattr(torch.ops.aten, name) for name in ('empty', 'zeros', 'ones', 'full', 'rand', 'randn'))


class AllocationLimit(TorchDispatchMode):
    """Within a ``with`` block, tensors may be created up to a number of values in total.

    The weights of a file decide how large its network is; without a limit, a short file could describe a network that
    does not fit into memory.

    Args:
        num_values (int): Values of all created tensors together.

    Raises:
        ValueError: More values are requested; they are not allocated.
    """

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.remaining = num_values

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in _FACTORIES:
            self.remaining -= math.prod(args[0])
            if self.remaining < 0:
                raise ValueError('the network would be far larger than its weights')
        return func(*args, **(kwargs or {}))
