"""Pickles of plain data, read without running what they ask for."""

import io
import pickle
from pathlib import Path

# How NumPy pickles arrays and scalars, under the names that its versions have used; and bytes in old protocols.
_NUMPY = {
    (f'numpy.{core}.{module}', name)
    for core in ('core', '_core')
    for module, name in (('multiarray', '_reconstruct'), ('multiarray', 'scalar'), ('numeric', '_frombuffer'))
}
_PLAIN = {('numpy', 'ndarray'), ('numpy', 'dtype'), ('_codecs', 'encode'), ('collections', 'OrderedDict')} | _NUMPY


class _RefusedError(Exception):
    pass


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _PLAIN:
            raise _RefusedError(f'it asks for {module}.{name}')
        return super().find_class(module, name)


def read_plain_pickle(path: Path) -> object:
    """Numbers, texts, lists, dicts and NumPy arrays of a pickle, of Python 2 too.

    Raises:
        ValueError: Cut off, or it asks for anything else; nothing of it is run.
    """
    try:
        return _Reader(io.BytesIO(path.read_bytes()), encoding='latin1').load()
    except _RefusedError as error:
        raise ValueError(f'{path}: not a pickle of plain data ({error}); nothing of it was run') from error
    # A damaged stream may break in any operation.
    except Exception as error:
        raise ValueError(f'{path}: cut off or damaged ({type(error).__name__}); download it again') from error
