"""What can be known to be wrong before any long work starts."""

import functools
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS, init_default_scope

from mmzeg.datasets.transforms.load_image import register_image_loader
from mmzeg.utils.weight_files import read_state
from mmzeg.vocabulary import Vocabulary


def check_config(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Check folders, checkpoint and class lists of a config; pictures that cannot be read will be named.

    Args:
        cfg (Config): A whole config.
        dataloaders (Sequence[str]): The fields of ``cfg`` whose datasets will be read.

    Raises:
        FileNotFoundError: A data folder, the checkpoint, or a local file of pretrained weights is not there.
        ValueError: A class listed twice or missing from the dataset's labels; a key that MMEngine cannot print; a
            checkpoint or pretrained weights that are cut off; mixed precision without a GPU.
    """
    register_image_loader()
    unprintable = next(_quoted_keys(cfg.to_dict()), None)
    if unprintable:
        raise ValueError(
            f"{unprintable}: MMEngine cannot print keys with apostrophes; give labels as pairs, [('NAME', VALUE), ...]"
        )
    if cfg.get('load_from') and '://' not in cfg.load_from:
        read_checkpoint(cfg.load_from)
    if 'train_dataloader' in dataloaders:
        for path in _pretrained_files(cfg.get('model')):
            if not path.is_file():
                raise FileNotFoundError(f'{path}: no such file of pretrained weights; fetch it, or set init_cfg=None')
            read_state(path)
    if 'train_dataloader' in dataloaders and cfg.optim_wrapper.type == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise ValueError(
            'mixed precision (AmpOptimWrapper) needs a GPU and none is found; on the CPU add '
            '--cfg-options optim_wrapper.type=OptimWrapper'
        )
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    for field in dataloaders:
        for dataset in datasets_of((cfg.get(field) or {}).get('dataset', {})):
            _check_dataset(dataset, field)


def read_checkpoint(path: str | Path) -> dict:
    """What is in a checkpoint of this machine, on the CPU.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Cut off, or not a checkpoint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    # Of a zip file, which is what torch writes, tensors are read only where they are used: a look costs nothing.
    mapped = zipfile.is_zipfile(path) or None
    try:
        found = torch.load(str(path), map_location='cpu', mmap=mapped, weights_only=False)
    # What torch and pickle raise over bytes that are none of theirs.
    except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: cut off, or not a checkpoint: copy it again') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path}: cut off, or not a checkpoint: copy it again')
    return found


def check_device(device: str) -> None:
    """ValueError where torch knows no such device, or has none here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = 'no GPU is found' if device.startswith('cuda') and not torch.cuda.is_available() else 'not there'
        raise ValueError(f"device {device!r}: {reason}; use device='cpu'") from error


def _quoted_keys(field: object) -> Iterator[str]:
    inner = field.values() if isinstance(field, dict) else field if isinstance(field, (list, tuple)) else ()
    if isinstance(field, dict):
        yield from (repr(key) for key in field if "'" in str(key))
    for part in inner:
        yield from _quoted_keys(part)


def datasets_of(dataset: dict) -> list[dict]:
    """The datasets that are joined or wrapped, or the dataset itself."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    return [found for part in inner for found in datasets_of(part)] if inner else [dataset]


def _check_dataset(dataset: dict, field: str) -> None:
    for prefix in dataset.get('data_prefix', {}).values():
        folder = Path(dataset.get('data_root') or '', prefix or '')
        if '://' not in str(folder) and not folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such data folder; set {field}.dataset.data_root')
    classes = dataset.get('metainfo', {}).get('classes')
    if classes is None or isinstance(classes, str):
        return
    Vocabulary(classes, unseen=dataset.metainfo.get('unseen_classes'))
    known = (getattr(DATASETS.get(dataset.type), 'METAINFO', {}) or {}).get('classes')
    missing = [name for name in classes if known and name not in known]
    if missing:
        raise ValueError(f'{field}: class {missing[0]!r} is not among the labels of {dataset.type}: correct it')


def _pretrained_files(field: object) -> Iterator[Path]:
    """Local files that an ``init_cfg`` anywhere inside names; those of a hub are mmengine's to fetch."""
    if isinstance(field, dict):
        checkpoint = field.get('checkpoint')
        if field.get('type') == 'Pretrained' and checkpoint and '://' not in checkpoint:
            yield Path(checkpoint)
    inner = field.values() if isinstance(field, dict) else field if isinstance(field, (list, tuple)) else ()
    for part in inner:
        yield from _pretrained_files(part)


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Let a tool end bad input in one line and with exit code 2 rather than in a stack trace."""

    @functools.wraps(main)
    def run(*args: object) -> None:
        try:
            main(*args)
        except (OSError, FloatingPointError, ValueError) as error:
            print(f'mmzeg: error: {_one_line(error)}', file=sys.stderr)
            sys.exit(2)

    return run


def _one_line(error: Exception) -> str:
    text = str(error).strip()
    if 'Original Traceback' in text:  # from a data loader's worker: the error itself is the last line
        text = text.splitlines()[-1].partition(': ')[2]
    return ' '.join(text.split())
