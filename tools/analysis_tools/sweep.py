"""Evaluate many settings of fusion and calibration in one pass over the data.

python tools/analysis_tools/sweep.py CONFIG CHECKPOINT --gamma 0:0.5:0.05 --lam 0.5,0.67,0.8
"""

import argparse
import json
from itertools import product
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from prettytable import PrettyTable

from mmzeg.evaluation import Setting, Sweep
from mmzeg.models import ZegFormer
from mmzeg.utils.atomic import write_whole
from mmzeg.utils.preflight import check_config, one_line_errors

SCORES = ('seen_mIoU', 'unseen_mIoU', 'hIoU')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--modes', nargs='+', default=['seg', 'img', 'full', 'unseen'], help='fusion modes')
    parser.add_argument('--lam', default='0.67', type=numbers, help='balances: a,b,c or first:last:step')
    parser.add_argument('--gamma', default='0:0.5:0.05', type=numbers, help='calibrations: a,b,c or first:last:step')
    parser.add_argument(
        '--data',
        choices=['val', 'test'],
        default='val',
        help='whose data loader; choose settings on val, with training classes held out as if unseen, not on test',
    )
    parser.add_argument('--out', type=Path, help='JSON file of all rows')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def numbers(text: str) -> list[float]:
    """The numbers of ``a,b,c``, or of ``first:last:step`` with the last one included."""
    try:
        if ':' not in text:
            return [float(part) for part in text.split(',')]
        first, last, step = (float(part) for part in text.split(':'))
        return [round(first + step * index, 6) for index in range(int((last - first) / step + 1e-6) + 1)]
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a,b,c nor first:last:step') from error


def settings_of(modes: list[str], lams: list[float], gammas: list[float]) -> list[Setting]:
    """Every combination that differs: ``seg``, ``img`` and ``pixel`` have no lambda."""
    found = []
    for mode in modes:
        found += [Setting(mode, *pair) for pair in product(lams if mode in ('full', 'unseen') else [0.0], gammas)]
    return found


def best(rows: list[dict], mode: str) -> dict:
    """The row of a mode with the highest harmonic mean."""
    return max((row for row in rows if row['mode'] == mode), key=lambda row: row['hIoU'])


def load(cfg: Config, checkpoint: str, data: str) -> tuple[Runner, object]:
    """A runner whose model has the checkpoint's weights, in eval mode, and the data loader."""
    # Not the training's own folder, whose config MMEngine would replace with this one.
    cfg.work_dir = 'work_dirs/sweep'
    cfg.load_from, cfg.log_level = checkpoint, 'WARNING'
    check_config(cfg, (f'{data}_dataloader',))
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    return runner, runner.build_dataloader(cfg[f'{data}_dataloader'])


def run(cfg: Config, checkpoint: str, data: str, settings: list[Setting]) -> list[dict]:
    """Rows of all settings."""
    if cfg.model.type == 'mmzeg.ZegFormer':
        cfg.model.fusion.mode = 'seg' if all(setting.mode == 'seg' for setting in settings) else 'full'
    runner, loader = load(cfg, checkpoint, data)
    if isinstance(runner.model, ZegFormer) and any(setting.mode == 'pixel' for setting in settings):
        raise ValueError("mode 'pixel' is of a model that names pixels; this one has seg, img, full and unseen")
    sweep = Sweep(runner.model, settings)
    for batch in track_iter_progress((loader, len(loader))):
        sweep.process(batch)
    return sweep.results()


def write(path: Path, content: object) -> None:
    """Write JSON that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda partial: partial.write_text(json.dumps(content, indent=1)))


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    modes = args.modes if cfg.model.type == 'mmzeg.ZegFormer' else ['pixel']
    rows = run(cfg, args.checkpoint, args.data, settings_of(modes, args.lam, args.gamma))
    if args.out:
        write(args.out, rows)
    table = PrettyTable(['mode', 'lambda', 'gamma', *SCORES], align='r')
    for row in rows:
        table.add_row([row['mode'], row['lam'], row['gamma'], *(f'{row[score]:.2f}' for score in SCORES)])
    print('\n' + table.get_string())
    for mode in modes:
        row = best(rows, mode)
        scores = '  '.join(f'{score} {row[score]:.2f}' for score in SCORES)
        print(f'best {mode}: lambda {row["lam"]}, gamma {row["gamma"]}: {scores}')


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
