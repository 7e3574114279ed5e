"""Read weight files of every kind without running code that is pickled in them."""

import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, without running pickled code.

    Args:
        path (Path): safetensors, a torch file of a state dict (alone, or under ``state_dict`` or ``model``), or a
            TorchScript archive.

    Returns:
        dict: Tensors by name, on the CPU; the prefix ``module.`` is removed.

    Raises:
        ValueError: Truncated, no such file, or pickled objects other than weights; names the file.
    """
    try:
        if path.suffix == '.safetensors':
            state = load_file(path)
        elif is_torchscript(path):
            state = torch.jit.load(path, map_location='cpu').state_dict()
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path}: truncated or not a weight file; download it again') from error
    except Exception as error:  # torch raises pickle.UnpicklingError for what is not a plain state dict
        raise ValueError(f'{path}: not a plain weight file ({type(error).__name__}); nothing of it was run') from error
    if not isinstance(state, dict):
        raise ValueError(f'{path}: holds no state dict; give a file of weights')
    for key in ('state_dict', 'model'):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, as OpenAI's CLIP files are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('constants.pkl') for name in archive.namelist())
