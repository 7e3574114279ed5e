"""Count kernels and host waits: what a GPU's speed depends on besides arithmetic, counted on any device.

A GPU works through a queue of kernels. The host fills the queue, and each launch takes it about 8 microseconds. Where
the host needs a value, it waits until the queue is empty, and the GPU idles until the queue is filled again.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

PACKAGE = str(Path(__file__).parents[1])
# Operations that allocate, and one that changes only the shape, without being a view for autograd.
NO_KERNEL = {'empty', 'empty_strided', 'empty_like', 'new_empty', 'new_empty_strided', '_unsafe_view', 'resize_'}
# Operations whose result, or its shape, the host needs at once.
WAITING = {
    '_local_scalar_dense',
    '_unique',
    '_unique2',
    'bincount',
    'equal',
    'is_nonzero',
    'masked_select',
    'nonzero',
    'unique_consecutive',
    'unique_dim',
    'unique_dim_consecutive',
}
INDEXING = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index'}


class KernelCounter:
    """Count kernels and host waits within a ``with`` block.

    An operation that is neither a view nor an allocation counts as one kernel, and so does the attention of
    ``F.scaled_dot_product_attention``. A copy between host and device waits unless it is ``non_blocking``.

    On a CPU all tensors count as those of a GPU, except those that a GPU's user has in host memory: results of
    ``torch.tensor`` without a device, of ``torch.from_numpy``, of ``Tensor.cpu``, tensors given to ``mark_host``, and
    what is computed from these.

    Args:
        device (torch.device): Where the model is.
        stage (Callable, optional): Returns the name of the current stage. Defaults to one stage without a name.

    Attributes:
        kernels (Counter): Kernels of every stage.
        waits (Counter): Host waits of every stage.
        wait_sites (Counter): Host waits by operation, and file and line in this package.
    """

    def __init__(self, device: torch.device, stage: Callable[[], str] = str) -> None:
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.wait_sites: Counter[str] = Counter()
        self._is_cpu = device.type == 'cpu'
        self._stage = stage
        self._host_tensors = WeakTensorKeyDictionary()
        self._is_paused = False
        self._stack = ExitStack()

    @property
    def num_kernels(self) -> int:
        """Kernels of all stages."""
        return sum(self.kernels.values())

    @property
    def num_waits(self) -> int:
        """Host waits of all stages."""
        return sum(self.waits.values())

    def __enter__(self) -> 'KernelCounter':
        self._stack.enter_context(patch.object(F, 'scaled_dot_product_attention', self._attention()))
        if self._is_cpu:
            for owner, name, replacement in self._host_functions():
                replacement.original = getattr(owner, name)
                self._stack.enter_context(patch.object(owner, name, replacement))
            self._stack.enter_context(_ListIndexing(self))
        self._stack.enter_context(_Dispatch(self))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)

    def mark_host(self, tensor: Tensor) -> Tensor:
        """Let a CPU tensor count as one in host memory, and return it."""
        self._host_tensors[tensor] = True
        return tensor

    def mark_batch(self, batch: dict) -> None:
        """Let the images and label maps of a batch count as in host memory, where a data loader puts them."""
        for tensor in (*batch['inputs'], *(sample.gt_sem_seg.data for sample in batch['data_samples'])):
            self.mark_host(tensor)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return ``kernels`` and ``waits`` of every stage and of ``all``."""
        return dict(
            kernels=dict(self.kernels, all=self.num_kernels),
            waits=dict(self.waits, all=self.num_waits),
        )

    def is_host(self, tensor: Tensor) -> bool:
        """Return whether a tensor counts as one in host memory."""
        return tensor in self._host_tensors if self._is_cpu else tensor.device.type == 'cpu'

    def add_kernel(self) -> None:
        """Count a kernel."""
        if not self._is_paused:
            self.kernels[self._stage()] += 1

    def add_wait(self, operation: str) -> None:
        """Count a host wait, and where in this package it was."""
        if not self._is_paused:
            self.waits[self._stage()] += 1
            self.wait_sites[f'{_call_site()} {operation}'] += 1

    @contextmanager
    def _paused(self) -> Iterator[None]:
        was_paused = self._is_paused
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = was_paused

    def _attention(self) -> Callable:
        """Return an attention that counts as one kernel: a CPU computes a masked one in several steps."""
        attention = F.scaled_dot_product_attention

        def counted(*args: object, **kwargs: object) -> Tensor:
            self.add_kernel()
            with self._paused():
                return attention(*args, **kwargs)

        return counted

    def _host_functions(self) -> list[tuple[object, str, Callable]]:
        """Return owner, name and replacement of the functions that cross between host and device."""
        return [
            (torch, 'tensor', self._from_host(torch.tensor)),
            (torch, 'as_tensor', self._from_host(torch.as_tensor)),
            (torch, 'from_numpy', self._from_host(torch.from_numpy)),
            (Tensor, 'new_tensor', self._new_tensor(Tensor.new_tensor)),
            (Tensor, 'cpu', self._cpu(Tensor.cpu)),
            (Tensor, 'to', self._to(Tensor.to)),
            (Tensor, 'tolist', self._read(Tensor.tolist)),
            (Tensor, 'numpy', self._read(Tensor.numpy)),
        ]

    def _from_host(self, make: Callable) -> Callable:
        def made(data: object, *args: object, **kwargs: object) -> Tensor:
            tensor = make(data, *args, **kwargs)
            if isinstance(data, Tensor):
                return tensor
            if kwargs.get('device') in (None, 'cpu'):
                return self.mark_host(tensor)
            self._copy(make.__name__, is_blocking=True)
            return tensor

        return made

    def _new_tensor(self, new_tensor: Callable) -> Callable:
        def made(like: Tensor, data: object, *args: object, **kwargs: object) -> Tensor:
            tensor = new_tensor(like, data, *args, **kwargs)
            if self.is_host(like):
                return self.mark_host(tensor)
            self._copy('new_tensor', is_blocking=True)
            return tensor

        return made

    def _cpu(self, cpu: Callable) -> Callable:
        def copied(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
            if self.is_host(tensor):
                return cpu(tensor, *args, **kwargs)
            self._copy('cpu', is_blocking=True)
            return self.mark_host(torch.ops.aten.alias(tensor))

        return copied

    def _to(self, to: Callable) -> Callable:
        def moved(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
            target = kwargs.get('device', args[0] if args else None)
            names_host = target == 'cpu' if isinstance(target, str) else False
            names_device = isinstance(target, torch.device) or isinstance(target, str) and not names_host
            if isinstance(target, Tensor):
                names_host = self.is_host(target)
                names_device = not names_host
            is_host = self.is_host(tensor)
            if not (names_device if is_host else names_host):
                return to(tensor, *args, **kwargs)
            self._copy('to', is_blocking=not kwargs.get('non_blocking', False))
            with self._paused():
                result = torch.ops.aten.alias(to(tensor, *args, **kwargs))
            self._host_tensors.pop(result, None)
            return result if is_host else self.mark_host(result)

        return moved

    def _read(self, read: Callable) -> Callable:
        def counted(tensor: Tensor, *args: object, **kwargs: object) -> object:
            if not self.is_host(tensor):
                self._copy(read.__name__, is_blocking=True)
            return read(tensor, *args, **kwargs)

        return counted

    def _copy(self, operation: str, is_blocking: bool) -> None:
        """Count a copy between host and device."""
        self.add_kernel()
        if is_blocking:
            self.add_wait(operation)


class _ListIndexing(TorchFunctionMode):
    """Count lists as indices: each becomes a tensor, which is copied to the device.

    A mode, as ``Tensor.__getitem__`` cannot be patched: the type keeps a slot afterwards, and ``torch.tensor``
    then takes every tensor in a list for a sequence.
    """

    def __init__(self, counter: KernelCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__getitem__ and not self.counter.is_host(args[0]):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(item, list) for item in index):
                self.counter._copy('list as index', is_blocking=True)
        # PyTorch hands over functions by their names, so a replacement again, which has counted already.
        func = getattr(func, 'original', func)
        return func(*args, **(kwargs or {}))


class _Dispatch(TorchDispatchMode):
    """Count every operation of PyTorch's dispatcher."""

    def __init__(self, counter: KernelCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # In inference mode, operations that consist of others arrive as a whole.
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        result = func(*args, **kwargs)
        counter = self.counter
        name = func._schema.name.removeprefix('aten::')
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        host_tensors = [tensor for tensor in tensors if counter.is_host(tensor)]
        # Operations on host tensors only
        if tensors and len(host_tensors) == len(tensors):
            is_upload = not counter._is_cpu and _is_on_device(result)
            if is_upload:
                counter._copy(name, is_blocking=not kwargs.get('non_blocking', False))
            elif counter._is_cpu:
                for value in tree_flatten(result)[0]:
                    if isinstance(value, Tensor):
                        counter.mark_host(value)
            return result
        if _is_free(func, name):
            return result
        if name != '_local_scalar_dense':
            counter.add_kernel()
        if _waits(func, name, args, kwargs, result, host_tensors):
            counter.add_wait(name)
        return result


def _is_free(func, name: str) -> bool:
    """Return whether an operation launches no kernel: an allocation, or a view."""
    if name in NO_KERNEL or torch.Tag.inplace_view in func.tags:
        return True
    return any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)


def _waits(func, name: str, args: tuple, kwargs: dict, result: object, host_tensors: list[Tensor]) -> bool:
    """Return whether the host waits for an operation that has tensors of the device."""
    if name in WAITING:
        return True
    if name == 'repeat_interleave':
        return kwargs.get('output_size') is None
    if name in ('_to_copy', 'copy_'):
        crosses = bool(host_tensors) or name == '_to_copy' and args[0].device != result.device
        non_blocking = kwargs.get('non_blocking', args[2] if name == 'copy_' and len(args) > 2 else False)
        return crosses and not non_blocking
    if name in INDEXING:
        indices = [index for index in args[1] if isinstance(index, Tensor)]
        # One mask and one value: a fill, whose size the host need not know.
        if name != 'index' and len(indices) == 1 and indices[0].dtype == torch.bool and args[2].numel() == 1:
            return False
        is_mask = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        return is_mask or any(index is tensor for index in indices for tensor in host_tensors)
    if any(tensor.dim() for tensor in host_tensors):
        raise RuntimeError(f'{func}: a tensor in host memory meets one of the device; make it on the device')
    return False


def _is_on_device(result: object) -> bool:
    return any(isinstance(value, Tensor) and value.device.type != 'cpu' for value in tree_flatten(result)[0])


def _call_site() -> str:
    """Return file and line of the innermost call in this package, but not in this file."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE) and path != __file__:
            return f'{Path(path).relative_to(PACKAGE)}:{frame.f_lineno}'
        frame = frame.f_back
    return '?'
