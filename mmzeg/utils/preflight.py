"""Checks of a config, a checkpoint and a device before any long work starts; one-line errors for tools."""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmzeg.datasets.joined_datasets import find_join_problems
from mmzeg.datasets.transforms.load_image import register_image_loader
from mmzeg.utils.error_messages import bad_input_message, log_traceback, one_line
from mmzeg.utils.half_precision import lacks_precision
from mmzeg.utils.model_zoos import check_zoo_name
from mmzeg.utils.run_checks import check_run, config_children, datasets_of
from mmzeg.utils.weight_files import check_finite, read_state
from mmzeg.vocabulary import Vocabulary


def check_config(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Check folders, checkpoint and class lists of a config; make errors of unreadable images name the file.

    Args:
        cfg (Config): A complete config.
        dataloaders (Sequence[str]): The fields of ``cfg`` whose datasets will be read.

    Raises:
        FileNotFoundError: No such data folder, checkpoint, or local file of pretrained weights.
        ValueError: A class listed twice or missing from the dataset's labels; a key that MMEngine cannot print; a
            truncated checkpoint or file of pretrained weights; weights that a model zoo lacks; mixed precision without
            a GPU; or as ``check_run``.
    """
    register_image_loader()
    # Config: MMEngine must be able to print it.
    unprintable = next(_keys_with_apostrophe(cfg.to_dict()), None)
    if unprintable:
        raise ValueError(
            f"{unprintable}: MMEngine cannot print keys with apostrophes; give labels as pairs, [('NAME', VALUE), ...]"
        )
    # Weights.
    if cfg.get('load_from') and '://' not in cfg.load_from:
        check_finite(cfg.load_from, read_state(cfg.load_from))
    is_training = 'train_dataloader' in dataloaders
    if is_training:
        for checkpoint in _pretrained_checkpoints(cfg.get('model')):
            if '://' in checkpoint:
                check_zoo_name(checkpoint)
                continue
            if not Path(checkpoint).is_file():
                raise FileNotFoundError(
                    f'{checkpoint}: no such file of pretrained weights; fetch it, or set init_cfg=None'
                )
            check_finite(checkpoint, read_state(checkpoint))
    # Device.
    if is_training and cfg.optim_wrapper.type == 'AmpOptimWrapper':
        _check_mixed_precision(cfg.optim_wrapper.get('dtype'))
    # Data folders and class lists.
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    for field in dataloaders:
        dataset_config = (cfg.get(field) or {}).get('dataset', {})
        for dataset in datasets_of(dataset_config):
            _check_dataset(dataset, field)
        for problem in find_join_problems(dataset_config, f'{field}.dataset'):
            raise ValueError(problem)
    # Fields that must fit together.
    check_run(cfg, dataloaders)


def check_device(device: str) -> None:
    """Raise ValueError if torch does not know the device, or this machine does not have it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        lacks_gpu = device.startswith('cuda') and not torch.cuda.is_available()
        reason = 'there is no GPU' if lacks_gpu else 'there is no such device'
        raise ValueError(f"device {device!r}: {reason}; use device='cpu'") from error


def _check_mixed_precision(dtype: str | torch.dtype | None) -> None:
    """Raise ValueError if this machine cannot train in mixed precision; float16 is the default of AmpOptimWrapper."""
    device = torch.device(get_device())
    if device.type == 'cpu':
        raise ValueError(
            'mixed precision (AmpOptimWrapper) needs a GPU, and there is none; on the CPU add '
            '--cfg-options optim_wrapper.type=OptimWrapper'
        )
    name = str(dtype or torch.float16).removeprefix('torch.')
    need = lacks_precision(getattr(torch, name, None), device)
    if need:
        raise ValueError(
            f'mixed precision (AmpOptimWrapper) in {name} {need}: set optim_wrapper.dtype to a precision that it has, '
            'or add --cfg-options optim_wrapper.type=OptimWrapper'
        )


def _check_dataset(dataset: dict, field: str) -> None:
    # Fields of the folders, which had other names in mmseg 0.x.
    dataset_class = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else dataset.get('type')
    if isinstance(dataset_class, type) and issubclass(dataset_class, BaseSegDataset):
        prefix = dataset.get('data_prefix', dict(img_path=''))
        old_fields = [name for name in ('img_dir', 'ann_dir') if name in dataset]
        if old_fields or 'img_path' not in prefix:
            name = old_fields[0] if old_fields else f'data_prefix={dict(prefix)}'
            raise ValueError(
                f"{field}.dataset.{name}: the folders are named by data_prefix=dict(img_path='...', seg_map_path='...')"
            )
    for prefix in dataset.get('data_prefix', {}).values():
        folder = Path(dataset.get('data_root') or '', prefix or '')
        if '://' not in str(folder) and not folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such data folder; set {field}.dataset.data_root')
    classes = dataset.get('metainfo', {}).get('classes')
    if classes is None or isinstance(classes, str):
        return
    Vocabulary(classes, unseen=dataset.metainfo.get('unseen_classes'))
    known = (getattr(dataset_class, 'METAINFO', {}) or {}).get('classes')
    missing = [name for name in classes if known and name not in known]
    if missing:
        raise ValueError(f'{field}: class {missing[0]!r} is not among the labels of {dataset.type}: correct it')


def _pretrained_checkpoints(field: object) -> Iterator[str]:
    """Yield the file or URL of every nested ``init_cfg`` of type ``Pretrained``."""
    if isinstance(field, dict):
        checkpoint = field.get('checkpoint')
        if field.get('type') == 'Pretrained' and checkpoint:
            yield checkpoint
    for child in config_children(field):
        yield from _pretrained_checkpoints(child)


def _keys_with_apostrophe(field: object) -> Iterator[str]:
    if isinstance(field, dict):
        yield from (repr(key) for key in field if "'" in str(key))
    for child in config_children(field):
        yield from _keys_with_apostrophe(child)


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a tool's main function: every error ends in one line instead of a stack trace.

    Bad input, mistyped types and fields of a config included, gives exit code 2. Any other error gives exit code 1, and
    its stack trace is appended to the log of the run, or to ``mmzeg_error.log`` in the current folder.
    """

    @functools.wraps(main)
    def run(*args: object) -> None:
        try:
            main(*args)
        except Exception as error:
            message = bad_input_message(error)
            if message is None:
                path = log_traceback(error)
                message = f'unexpected {type(error).__name__}: {one_line(error)}; the stack trace is in {path}'
                code = 1
            else:
                code = 2
            print(f'mmzeg: error: {message}', file=sys.stderr)
            sys.exit(code)

    return run
