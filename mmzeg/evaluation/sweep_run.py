"""Run a sweep over a split of a config's data, resume it after a stop, and write its rows."""

import csv
import hashlib
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from mmengine.config import Config
from mmengine.runner.amp import autocast
from mmengine.utils import track_iter_progress
from torch import nn
from torch.utils.data import Dataset, Subset

from mmzeg.clip.text_cache import file_version
from mmzeg.evaluation.loading import ignore_index_of, load_for_evaluation
from mmzeg.evaluation.report import make_report
from mmzeg.evaluation.sweep import Setting, Sweep
from mmzeg.models.fusion import MODES
from mmzeg.utils.atomic import atomic_write

# Fields of a data loader that decide no result; they may change before an unfinished sweep goes on.
WORKER_FIELDS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory')
# Modes in which lambda has an effect.
ENSEMBLE_MODES = ('full', 'unseen')


def supported_modes(cfg: Config) -> list[str]:
    """Return the modes that a config's model has.

    Raises:
        ValueError: It has no training classes, and so nothing that a sweep chooses.
    """
    if cfg.model.type == 'mmzeg.ProposalSegmentor':
        raise ValueError(
            f'{cfg.filename}: ProposalSegmentor is trained on no classes, so there is no balance of seen and unseen '
            'ones to choose: test it with tools/test.py'
        )
    if cfg.model.type != 'mmzeg.ZegFormer':
        return ['pixel']
    return ['seg'] if cfg.model.get('scorer') is None else list(MODES)


def combine_settings(
    modes: Sequence[str],
    lams: Sequence[float],
    gammas: Sequence[float],
    alphas: Sequence[float] = (0.4,),
    betas: Sequence[float] = (0.8,),
) -> list[Setting]:
    """Return every distinct combination; lambda, alpha and beta are 0 in modes that do not have them."""
    settings = []
    for mode in modes:
        mode_lams = lams if mode in ENSEMBLE_MODES else [0.0]
        mode_alphas, mode_betas = (alphas, betas) if mode == 'geometric' else ([0.0], [0.0])
        values = product(mode_lams, gammas, mode_alphas, mode_betas)
        settings += [Setting(mode, lam, gamma, alpha, beta) for lam, gamma, alpha, beta in values]
    return list(dict.fromkeys(settings))


def describe_weights(row: dict) -> str:
    """Return the ensemble's weights of a row in words: ``lambda 0.67``, ``alpha 0.4, beta 0.8``, or nothing."""
    if row['mode'] == 'geometric':
        return f'alpha {row["alpha"]:g}, beta {row["beta"]:g}'
    return f'lambda {row["lam"]:g}' if row['mode'] in ENSEMBLE_MODES else ''


def best_row(rows: Sequence[dict], mode: str) -> dict | None:
    """Return the row of a mode with the highest harmonic mean; None if no row has one."""
    candidates = [row for row in rows if row['mode'] == mode and row['hIoU'] is not None]
    return max(candidates, key=lambda row: row['hIoU'], default=None)


def run_sweep(
    cfg: Config, checkpoint: str, split: str, settings: list[Setting], state: Path, save_every: float
) -> tuple[list[dict], dict]:
    """Evaluate all settings in one pass over a split.

    Args:
        cfg (Config): A complete config; changed in place.
        checkpoint (str): File or URL of the weights.
        split (str): ``val`` or ``test``.
        settings (list[Setting]): What to evaluate.
        state (Path): File of the counts so far, from which a stopped sweep goes on. It remains at the end.
        save_every (float): Seconds between two writes of that file.

    Returns:
        tuple: A row per setting, with None for a mean over no class; and everything else that decides the results.
    """
    if cfg.model.type == 'mmzeg.ZegFormer':
        modes = {setting.mode for setting in settings}
        cfg.merge_from_dict({'model.fusion.mode': 'seg' if modes == {'seg'} else 'full'})
    # A stopped sweep goes on after a number of images, so their order must not change.
    cfg[f'{split}_dataloader'].sampler = dict(type='DefaultSampler', shuffle=False)
    runner, loader = load_for_evaluation(cfg, checkpoint, split)
    dataset = loader.dataset
    sweep = Sweep(runner.model, settings, ignore_index_of(cfg, split))
    key = sweep_key(cfg, runner.model, dataset, split)

    # Go on after the images that are counted already.
    if state.exists():
        sweep.resume(state, key)
        print(f'{state} exists: resumes after {sweep.num_images} of {len(dataset)} images')
        remaining = Subset(dataset, range(sweep.num_images, len(dataset)))
        loader = []
        if len(remaining):
            loader = runner.build_dataloader(dict(cfg[f'{split}_dataloader'], dataset=remaining))

    # Count, and save the counts from time to time.
    sweep.save(state, key)
    saved_at = time.monotonic()
    uses_fp16 = (cfg.get(f'{split}_cfg') or {}).get('fp16', False)
    for batch in track_iter_progress((loader, len(loader))) if len(loader) else ():
        with autocast(enabled=uses_fp16):
            sweep.process(batch)
        if time.monotonic() - saved_at >= save_every:
            sweep.save(state, key)
            saved_at = time.monotonic()
    sweep.save(state, key)
    return [_none_for_nan(row) for row in sweep.results()], key


def sweep_key(cfg: Config, model: nn.Module, dataset: Dataset, split: str) -> dict:
    """Return everything but the settings that decides a sweep's results: config, weights, data, packages, device."""
    fields = {f'test_{name}': cfg.get(f'{split}_{name}') for name in ('dataloader', 'evaluator', 'cfg')}
    report = make_report(Config(dict(fields, model=cfg.model, load_from=cfg.load_from)), model, {}, ())
    for name in WORKER_FIELDS:
        report['config']['test_dataloader'].pop(name, None)
    # Versions of all image and label files
    files = hashlib.sha256()
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for path in (info.get('img_path'), info.get('seg_map_path')):
            version = file_version(Path(path)) if path and Path(path).exists() else path
            files.update(repr(version).encode())
    return dict(
        checkpoint=report['checkpoint']['hash'] or report['checkpoint']['path'],
        data=files.hexdigest(),
        device=next(model.parameters()).device.type,
        **{name: report[name] for name in ('config', 'clip', 'packages')},
    )


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write a line per row, atomically; an empty cell is a mean over no class."""

    def write_rows(partial: Path) -> None:
        with partial.open('w', newline='') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    atomic_write(path, write_rows)


def _none_for_nan(row: dict) -> dict:
    """Return a row with None for NaN, which JSON does not have."""
    return {name: None if value != value else value for name, value in row.items()}
