"""Read pickles of plain data without running code that is pickled in them."""

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


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _PLAIN:
            raise _RefusedError(f'it needs {module}.{name}')
        return super().find_class(module, name)


def read_plain_pickle(path: Path) -> object:
    """Read numbers, texts, lists, dicts and NumPy arrays from a pickle, also one of Python 2.

    Raises:
        ValueError: Truncated, or the pickle needs other classes; none of its code is run.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load()
    except _RefusedError as error:
        raise ValueError(f'{path}: not a pickle of plain data ({error}); nothing of it was run') from error
    # A corrupted stream may raise anything.
    except Exception as error:
        raise ValueError(f'{path}: truncated or corrupted ({type(error).__name__}); download it again') from error
