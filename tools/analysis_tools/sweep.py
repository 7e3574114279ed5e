"""A grid of fusion modes, lambda and gamma in one pass over the data: table, CSV and plot. Killed, it goes on.

python tools/analysis_tools/sweep.py CONFIG CHECKPOINT --gamma 0:0.3:0.02 --lam 0,0.33,0.5,0.67,1 --held-out 8

Gamma and lambda are chosen with training classes held out as if unseen: docs/en/tuning.md.
"""

import argparse
import csv
import hashlib
import json
import math
import sys
import time
from itertools import product
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from mmengine.utils import track_iter_progress
from mmseg.registry import MODELS
from prettytable import PrettyTable
from torch.utils.data import Dataset, Subset

from mmzeg.clip.text_cache import file_version
from mmzeg.evaluation import Setting, Sweep
from mmzeg.evaluation.report import make_report
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_config, one_line_errors
from mmzeg.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))
from holding_out import cautions, held_out, hold_out, trained_classes  # noqa: E402
from sweep_plot import draw  # noqa: E402

SCORES = ('seen_mIoU', 'unseen_mIoU', 'hIoU')
# What a data loader has that decides no figure, and may change before an unfinished sweep goes on.
WORKERS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--modes', nargs='+', help='fusion modes (default: all that the model has)')
    parser.add_argument('--lam', default='0.67', type=numbers, help='balances: a,b,c or first:last:step')
    parser.add_argument('--gamma', default='0:0.5:0.05', type=numbers, help='calibrations: a,b,c or first:last:step')
    parser.add_argument(
        '--held-out',
        help='choose by these classes, not by the unseen: NAME,NAME (no space after a comma), a number of seen classes '
        'or a share of them below 1, drawn with --seed. The other unseen classes are left out, their pixels ignored',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the classes that --held-out draws')
    parser.add_argument('--data', choices=['val', 'test'], default='val', help='whose data loader')
    parser.add_argument(
        '--out', type=Path, help='folder of sweep.json, sweep.csv and sweep.png (default: work_dirs/sweep/CONFIG)'
    )
    parser.add_argument('--save-every', type=float, default=30, help='seconds between two states to go on from')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def numbers(text: str) -> list[float]:
    """The numbers of ``a,b,c``, or of ``first:last:step`` with the last one included."""
    try:
        if ':' in text:
            first, last, step = (float(part) for part in text.split(':'))
            found = [round(first + step * index, 6) for index in range(int((last - first) / step + 1e-6) + 1)]
        else:
            found = [float(part) for part in text.split(',')]
        if found and all(map(math.isfinite, found)):
            return found
    except (ValueError, ArithmeticError):
        pass
    raise argparse.ArgumentTypeError(f'{text!r} is neither a,b,c nor first:last:step')


def settings_of(modes: list[str], lams: list[float], gammas: list[float]) -> list[Setting]:
    """Every combination that differs: ``seg``, ``img`` and ``pixel`` have no lambda."""
    found = []
    for mode in modes:
        found += [Setting(mode, *pair) for pair in product(lams if mode in ('full', 'unseen') else [0.0], gammas)]
    return list(dict.fromkeys(found))


def modes_of(cfg: Config) -> list[str]:
    """The modes that a config's model has."""
    if cfg.model.type != 'mmzeg.ZegFormer':
        return ['pixel']
    return ['seg'] if cfg.model.get('scorer') is None else ['seg', 'img', 'full', 'unseen']


def best(rows: list[dict], mode: str) -> dict | None:
    """The row of a mode with the highest harmonic mean; None where no row has one."""
    rows = [row for row in rows if row['mode'] == mode and row['hIoU'] is not None]
    return max(rows, key=lambda row: row['hIoU'], default=None)


def require_loader(cfg: Config, data: str) -> None:
    """ValueError where a config has no ``val`` or ``test`` data loader."""
    if not cfg.get(f'{data}_dataloader'):
        raise ValueError(f'{cfg.filename}: no {data}_dataloader: give it one, or take the other of val and test')


def require_scorer(cfg: Config) -> None:
    """ValueError where a config's model has no segments, or does not ask CLIP about them."""
    if cfg.model.type != 'mmzeg.ZegFormer':
        raise ValueError(f'{cfg.filename}: {cfg.model.type} has no segments: give a config of mmzeg.ZegFormer')
    if cfg.model.get('scorer') is None:
        raise ValueError(f'{cfg.filename}: the model has no scorer to ask CLIP: give it one')


def load(cfg: Config, checkpoint: str, data: str) -> tuple[Runner, object]:
    """A runner whose model has the checkpoint's weights, in eval mode, and the data loader."""
    # Not the training's own folder, whose config MMEngine would replace with this one.
    cfg.work_dir = 'work_dirs/sweep'
    cfg.load_from, cfg.log_level = checkpoint, 'WARNING'
    require_loader(cfg, data)
    check_config(cfg, (f'{data}_dataloader',))
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    loader = runner.build_dataloader(cfg[f'{data}_dataloader'])
    meta = loader.dataset.metainfo
    unseen = meta.get('unseen_classes', ())
    runner.model.vocabulary.check_matches(meta['classes'], f'the dataset of {data}_dataloader', unseen=unseen)
    return runner, loader


def other_scorer(field: dict, change: dict) -> object:
    """Another scorer with the CLIP and the prompts of a config's."""
    kept = {name: field[name] for name in ('clip', 'prompts') if name in field}
    return MODELS.build(dict(kept, **change))


def ignore_index(cfg: Config, data: str) -> int:
    """The label value that a config's metric does not count."""
    metrics = cfg.get(f'{data}_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    return next((metric.ignore_index for metric in metrics if 'ignore_index' in metric), 255)


def identity(cfg: Config, model: torch.nn.Module, dataset: Dataset, data: str) -> dict:
    """Everything beside the settings that decides the figures."""
    fields = {f'test_{part}': cfg.get(f'{data}_{part}') for part in ('dataloader', 'evaluator', 'cfg')}
    report = make_report(Config(dict(fields, model=cfg.model, load_from=cfg.load_from)), model, {}, ())
    for name in WORKERS:
        report['config']['test_dataloader'].pop(name, None)
    files = hashlib.sha256()
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for path in (info.get('img_path'), info.get('seg_map_path')):
            files.update(repr(file_version(Path(path)) if path and Path(path).exists() else path).encode())
    return dict(
        checkpoint=report['checkpoint']['hash'] or report['checkpoint']['path'],
        data=files.hexdigest(),
        device=next(model.parameters()).device.type,
        **{name: report[name] for name in ('config', 'clip', 'packages')},
    )


def run(cfg: Config, checkpoint: str, data: str, settings: list[Setting], state: Path, every: float) -> tuple:
    """Rows of all settings, a mean over no class being None, and what decides them.

    Args:
        state (Path): File of the counts so far, from which a run that was killed goes on. Left there at the end.
        every (float): Seconds between two of its versions.
    """
    if cfg.model.type == 'mmzeg.ZegFormer':
        cfg.merge_from_dict(
            {'model.fusion.mode': 'seg' if {setting.mode for setting in settings} == {'seg'} else 'full'}
        )
    # Where to go on is told by a number of pictures.
    cfg[f'{data}_dataloader'].sampler = dict(type='DefaultSampler', shuffle=False)
    runner, loader = load(cfg, checkpoint, data)
    sweep, dataset = Sweep(runner.model, settings, ignore_index(cfg, data)), loader.dataset
    key = identity(cfg, runner.model, dataset, data)
    if state.exists():
        sweep.resume(state, key)
        print(f'{state} is there: goes on after {sweep.pictures} of {len(dataset)} pictures')
        left = Subset(dataset, range(sweep.pictures, len(dataset)))
        loader = runner.build_dataloader(dict(cfg[f'{data}_dataloader'], dataset=left)) if len(left) else []
    sweep.save(state, key)
    saved = time.monotonic()
    for batch in track_iter_progress((loader, len(loader))) if len(loader) else ():
        with autocast(enabled=(cfg.get(f'{data}_cfg') or {}).get('fp16', False)):
            sweep.process(batch)
        if time.monotonic() - saved >= every:
            sweep.save(state, key)
            saved = time.monotonic()
    sweep.save(state, key)
    rows = [{name: None if value != value else value for name, value in row.items()} for row in sweep.results()]
    return rows, key


def write(path: Path, content: object) -> None:
    """Write JSON that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_text(json.dumps(content, indent=1)))


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write a row a setting; an empty cell is a mean over no class."""

    def fill(partial: Path) -> None:
        with partial.open('w', newline='') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    atomic_write(path, fill)


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    require_loader(cfg, args.data)
    out = args.out or Path('work_dirs/sweep', Path(args.config).stem)
    out.mkdir(parents=True, exist_ok=True)
    settings = settings_of(args.modes or modes_of(cfg), args.lam, args.gamma)
    before = Vocabulary.build(cfg.model.decode_head.classifier.vocabulary)
    trained = trained_classes(cfg, args.checkpoint)
    chosen = held_out(before, args.held_out, args.seed) if args.held_out else []
    if chosen:
        left_out = hold_out(cfg, args.data, chosen)
        print(f'as if unseen: {", ".join(chosen)}\nleft out, their pixels ignored: {", ".join(left_out) or "none"}')
    warnings = ''.join(f'warning: {text}\n' for text in cautions(cfg, args.data, chosen, before, trained))
    print(warnings, end='', flush=True)

    state = out / 'unfinished.pt'
    rows, decided_by = run(cfg, args.checkpoint, args.data, settings, state, args.save_every)
    modes = dict.fromkeys(setting.mode for setting in settings)
    winners = {mode: best(rows, mode) for mode in modes}
    write(out / 'sweep.json', dict(rows=rows, best=winners, held_out=chosen, decided_by=decided_by))
    write_csv(out / 'sweep.csv', rows)
    if any(winners.values()):
        draw(rows, winners, out / 'sweep.png', 'classes held out as if unseen' if chosen else 'unseen classes')
    else:
        (out / 'sweep.png').unlink(missing_ok=True)
    state.unlink()

    table = PrettyTable(['mode', 'lambda', 'gamma', *SCORES], align='r')
    for row in rows:
        table.add_row([row['mode'], row['lam'], row['gamma'], *map(figure, map(row.get, SCORES))])
    print(f'\n{table}')
    for mode, row in winners.items():
        if row is None:
            print(f'best {mode}: no harmonic mean, for no label is of a seen class or none of an unseen one')
            continue
        scores = '  '.join(f'{score} {figure(row[score])}' for score in SCORES)
        print(f'best {mode}: lambda {row["lam"]}, gamma {row["gamma"]}: {scores}')
    print(f'{warnings}{out}: {", ".join(path.name for path in sorted(out.glob("sweep.*")))}')


def figure(value: float | None) -> str:
    """A cell of a table."""
    return '-' if value is None else f'{value:.2f}'


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
