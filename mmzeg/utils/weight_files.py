"""The one loader of weight files: safetensors, torch files and TorchScript archives, without running code in them.

Every path that loads weights comes here: configs (``load_from``, ``resume``, ``init_cfg``) through MMEngine and
``mmzeg.utils.mmengine_checkpoints``, and mmzeg's own tools directly.
"""

import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from mmzeg.utils.restricted_pickle import RefusedError, checkpoint_pickle
from mmzeg.utils.trusted_files import is_trusted, trust_hint

# In place of a file, for a model that has no weights, such as one whose masks come from files.
NO_WEIGHTS = 'none'
# A torch file holds its tensors uncompressed; small records may be compressed.
MAX_UNPACKED_RATIO = 4
# Bytes of a safetensors header, which is parsed as JSON: 10,000 tensors take about one MiB.
MAX_HEADER_BYTES = 1 << 24


def load_weight_file(path: str | Path, map_location: object = 'cpu') -> dict:
    """Load a weight file of any kind, without running code that is pickled in it.

    Args:
        path (str | Path): A ``.safetensors`` file, a torch file, or a TorchScript archive.
        map_location: Where tensors go, as in ``torch.load``. Defaults to the CPU.

    Returns:
        dict: The content of a torch file. Of the other kinds ``state_dict``, the tensors by name, and for safetensors
        ``meta``, the texts of its header.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated or corrupted, compressed beyond reason, or it needs a class that no checkpoint needs;
            names the file and the class. Nothing of it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    try:
        if _is_safetensors(path):
            return _load_safetensors(path, map_location)
        if zipfile.is_zipfile(path):
            _check_archive(path)
        if is_torchscript(path):
            return dict(state_dict=torch.jit.load(str(path), map_location=map_location).state_dict())
        content = _load_torch_file(path, map_location)
    except RefusedError as error:
        raise ValueError(f'{path}: not a plain checkpoint ({error}); {trust_hint(path)}') from error
    # A corrupted stream may raise anything.
    except Exception as error:
        raise ValueError(f'{path}: truncated or not a checkpoint; download it again') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: truncated or not a checkpoint; download it again')
    return content


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Load the tensors of a weight file of any kind, see ``load_weight_file``, which raises the same errors.

    Returns:
        dict: Tensors by name, on the CPU: the file's own, or those under ``state_dict`` or ``model``. The prefix
        ``module.`` is removed.
    """
    state = load_weight_file(path)
    for key in ('state_dict', 'model'):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the texts in the header of a safetensors file, without its tensors.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated or corrupted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    try:
        _check_header(path)
        with safe_open(path, 'pt') as file:
            return dict(file.metadata() or {})
    # A corrupted header may raise anything.
    except Exception as error:
        raise ValueError(f'{path}: truncated or not a checkpoint; download it again') from error


def check_finite(path: str | Path, state: dict[str, Tensor]) -> None:
    """Raise ValueError, naming the file and the first such weight, where a floating-point weight is NaN."""
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.isnan().any():
            raise ValueError(
                f'{path}: {name} is NaN: the training diverged, or the file is corrupted; take an earlier checkpoint, '
                'or download it again'
            )


def check_weightless(model: nn.Module) -> None:
    """Raise ValueError if a model has weights, and so needs a checkpoint."""
    num_weights = sum(1 for _ in model.parameters())
    if num_weights:
        raise ValueError(
            f'the checkpoint is {NO_WEIGHTS!r}, but {type(model).__name__} has {num_weights} weights here: give a file'
        )


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, as OpenAI's CLIP files are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('constants.pkl') for name in archive.namelist())


def _load_torch_file(path: Path, map_location: object) -> object:
    # Tensors of a zip file are read only where they are used: a check of a large file costs little.
    mmap = zipfile.is_zipfile(path) and map_location == 'cpu'
    if is_trusted(path):
        return torch.load(str(path), map_location=map_location, mmap=mmap or None, weights_only=False)
    # Not weights_only=True: it does not know MMEngine's classes, and torch 2.1 cannot be told of them.
    return torch.load(
        str(path), map_location=map_location, mmap=mmap or None, pickle_module=checkpoint_pickle, weights_only=False
    )


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors, by its name or by its first bytes (a length, then a JSON object)."""
    if path.suffix == '.safetensors':
        return True
    with path.open('rb') as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size


def _check_header(path: Path) -> None:
    """Raise ValueError where a safetensors header is longer than the file, or than any that is needed."""
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
    if length > min(path.stat().st_size, MAX_HEADER_BYTES):
        raise ValueError(f'a header of {length} bytes')


def _load_safetensors(path: Path, map_location: object) -> dict:
    _check_header(path)
    with safe_open(path, 'pt') as file:
        meta = dict(file.metadata() or {})
        # Copies, so that the file may be replaced later.
        state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, a file is no dict
    if map_location not in ('cpu', None):
        state = {name: tensor.to(map_location) for name, tensor in state.items()}
    return dict(state_dict=state, meta=meta)


def _check_archive(path: Path) -> None:
    """Raise RefusedError where an archive would unpack to far more than its size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_UNPACKED_RATIO * path.stat().st_size:
        raise RefusedError(f'{path.stat().st_size} bytes would unpack to {unpacked}')
