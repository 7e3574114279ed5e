"""Unpicklers that know a fixed list of classes: a file can neither import nor call anything else."""

import io
import pickle
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.logging import HistoryBuffer

from mmzeg.utils.trusted_files import is_trusted, trust_hint

# How NumPy pickles arrays and scalars, under the names that its versions have used.
_NUMPY = {
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    *(
        (f'numpy.{core}.{module}', name)
        for core in ('core', '_core')
        for module, name in (('multiarray', '_reconstruct'), ('multiarray', 'scalar'), ('numeric', '_frombuffer'))
    ),
}
# Plain data: numbers, texts and containers need no class; bytes of old protocols need _codecs.encode.
PLAIN = frozenset({('_codecs', 'encode'), ('collections', 'OrderedDict'), *_NUMPY})
_STORAGES = ('Double', 'Float', 'Half', 'BFloat16', 'Long', 'Int', 'Short', 'Char', 'Byte', 'Bool')
# Checkpoints: tensors, and what MMEngine's runner saves with them (message hub, config).
CHECKPOINT = PLAIN | {
    ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch', 'Size'),
    ('torch', 'device'),
    ('torch.storage', 'UntypedStorage'),
    *(('torch', f'{kind}Storage') for kind in _STORAGES),
    *(('torch', name) for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
    ('builtins', 'set'),
    ('__builtin__', 'set'),
    ('collections', 'defaultdict'),
    ('builtins', 'dict'),
    ('builtins', 'list'),
    ('mmengine.logging.history_buffer', 'HistoryBuffer'),
    ('mmengine.config.config', 'ConfigDict'),
}


class RefusedError(pickle.UnpicklingError):
    """The pickle needs a class or a function that is not on the list."""


# Python's own implementation: the one in C cannot be told not to set attributes of classes.
class _RestrictedUnpickler(pickle._Unpickler):
    allowed: Collection[tuple[str, str]] = PLAIN
    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise RefusedError(f'it needs {module}.{name}')
        return super().find_class(module, name)

    def load_build(self) -> None:
        """Set the state of an object; of a class or a function it would change the running program."""
        target = self.stack[-2]
        if isinstance(target, type) or callable(target):
            raise RefusedError(f'it changes {getattr(target, "__name__", target)}')
        super().load_build()

    def get_extension(self, code: int) -> None:
        raise RefusedError(f'it needs the registered extension {code}')

    dispatch[pickle.BUILD[0]] = load_build


class _CheckpointUnpickler(_RestrictedUnpickler):
    allowed = CHECKPOINT

    def find_class(self, module: str, name: str) -> object:
        # MMEngine pickles the statistics of its message hub as getattr(HistoryBuffer, NAME).
        if name == 'getattr' and module in ('builtins', '__builtin__'):
            return _history_buffer_method
        return super().find_class(module, name)


def _history_buffer_method(owner: object, name: str) -> object:
    """Return a public method of MMEngine's ``HistoryBuffer``; RefusedError for anything else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise RefusedError(f'it needs {getattr(owner, "__name__", type(owner).__name__)}.{name}')
    return getattr(HistoryBuffer, name)


def _load_checkpoint_pickle(file, **options: object) -> object:
    return _CheckpointUnpickler(file, **options).load()


# What ``torch.load(..., pickle_module=...)`` takes, in all versions.
checkpoint_pickle = SimpleNamespace(
    __name__='mmzeg.utils.restricted_pickle', Unpickler=_CheckpointUnpickler, load=_load_checkpoint_pickle
)


def read_plain_pickle(path: Path) -> object:
    """Read numbers, texts, lists, dicts and NumPy arrays from a pickle, also one of Python 2.

    Raises:
        ValueError: Truncated, or the pickle needs other classes; none of its code is run, unless the file is trusted.
    """
    try:
        if is_trusted(path):
            return pickle.loads(path.read_bytes(), encoding='latin1')
        return _RestrictedUnpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load()
    except RefusedError as error:
        raise ValueError(f'{path}: not a pickle of plain data ({error}); {trust_hint(path)}') from error
    # A corrupted stream may raise anything.
    except Exception as error:
        raise ValueError(f'{path}: truncated or corrupted ({type(error).__name__}); download it again') from error
