"""Evaluate a grid of fusion modes, their weights and gamma in one pass over the data: table, CSV, plot; resumable.

python tools/analysis_tools/sweep.py CONFIG CHECKPOINT --gamma 0:0.3:0.02 --lam 0,0.33,0.5,0.67,1 --held-out 8

Choose gamma and lambda with training classes held out as if unseen: docs/en/tuning.md.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction
from prettytable import PrettyTable

from mmzeg.evaluation.held_out_classes import choose_held_out, hold_out, trained_classes, tuning_warnings
from mmzeg.evaluation.loading import require_dataloader
from mmzeg.evaluation.sweep_plot import draw_sweep
from mmzeg.evaluation.sweep_run import (
    best_row,
    combine_settings,
    describe_weights,
    run_sweep,
    supported_modes,
    write_csv,
)
from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.utils.atomic import write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tables import format_score
from mmzeg.utils.tool_arguments import add_trust_argument
from mmzeg.vocabulary import Vocabulary


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('--modes', nargs='+', help='fusion modes (default: all modes of the model)')
    parser.add_argument('--lam', default='0.67', type=parse_numbers, help='lambdas: a,b,c or first:last:step')
    parser.add_argument(
        '--alpha', default='0.4', type=parse_numbers, help="CLIP's weights for seen classes, mode geometric: as --lam"
    )
    parser.add_argument(
        '--beta', default='0.8', type=parse_numbers, help="CLIP's weights for unseen classes, mode geometric: as --lam"
    )
    parser.add_argument('--gamma', default='0:0.5:0.05', type=parse_numbers, help='gammas: a,b,c or first:last:step')
    parser.add_argument(
        '--held-out',
        help='choose by these classes, not by the unseen: NAME,NAME (no space after a comma), a number of seen '
        'classes, or a fraction of them below 1, drawn with --seed. The other unseen classes are not evaluated, their '
        'pixels ignored',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the classes that --held-out draws')
    parser.add_argument('--data', choices=['val', 'test'], default='val', help='the data loader to evaluate')
    parser.add_argument(
        '--out', type=Path, help='folder of sweep.json, sweep.csv and sweep.png (default: work_dirs/sweep/CONFIG)'
    )
    parser.add_argument('--save-every', type=float, default=30, help='seconds between two saved states to resume from')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def parse_numbers(text: str) -> list[float]:
    """Return the numbers of ``a,b,c``, or of ``first:last:step`` with the last one included."""
    try:
        if ':' in text:
            first, last, step = (float(number) for number in text.split(':'))
            count = int((last - first) / step + 1e-6) + 1
            numbers = [round(first + step * index, 6) for index in range(count)]
        else:
            numbers = [float(number) for number in text.split(',')]
        if numbers and all(map(math.isfinite, numbers)):
            return numbers
    except (ValueError, ArithmeticError):
        pass
    raise argparse.ArgumentTypeError(f'{text!r} is neither a,b,c nor first:last:step')


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    supported = supported_modes(cfg)
    require_dataloader(cfg, args.data)
    out = args.out or Path('work_dirs/sweep', Path(args.config).stem)
    out.mkdir(parents=True, exist_ok=True)
    modes = args.modes or supported
    settings = combine_settings(modes, args.lam, args.gamma, args.alpha, args.beta)

    # Evaluate some seen classes as if unseen, and warn of what must not be tuned on.
    vocabulary = Vocabulary.build(cfg.model.decode_head.classifier.vocabulary)
    trained = trained_classes(cfg, args.checkpoint)
    held_out = choose_held_out(vocabulary, args.held_out, args.seed) if args.held_out else []
    if held_out:
        removed = hold_out(cfg, args.data, held_out)
        print(f'as if unseen: {", ".join(held_out)}\nleft out, their pixels ignored: {", ".join(removed) or "none"}')
    warnings = tuning_warnings(cfg, args.data, held_out, vocabulary, trained)
    warnings = ''.join(f'warning: {warning}\n' for warning in warnings)
    print(warnings, end='', flush=True)

    # Run the sweep, then write rows and plot.
    state = out / 'unfinished.pt'
    rows, decided_by = run_sweep(cfg, args.checkpoint, args.data, settings, state, args.save_every)
    best = {mode: best_row(rows, mode) for mode in dict.fromkeys(setting.mode for setting in settings)}
    write_json(out / 'sweep.json', dict(rows=rows, best=best, held_out=held_out, decided_by=decided_by))
    write_csv(out / 'sweep.csv', rows)
    if any(best.values()):
        unseen_label = 'classes held out as if unseen' if held_out else 'unseen classes'
        draw_sweep(rows, best, out / 'sweep.png', unseen_label)
    else:
        (out / 'sweep.png').unlink(missing_ok=True)
    state.unlink()

    print_results(rows, best)
    print(f'{warnings}{out}: {", ".join(path.name for path in sorted(out.glob("sweep.*")))}')


def print_results(rows: Sequence[dict], best: Mapping[str, dict | None]) -> None:
    """Print a table of all rows, and the best row of every mode."""
    table = PrettyTable(['mode', 'weights', 'gamma', *SCORES], align='r')
    for row in rows:
        scores = (format_score(row[score]) for score in SCORES)
        table.add_row([row['mode'], describe_weights(row), row['gamma'], *scores])
    print(f'\n{table}')
    for mode, row in best.items():
        if row is None:
            print(f'best {mode}: no harmonic mean, as the labels hold no seen or no unseen class')
            continue
        scores = '  '.join(f'{score} {format_score(row[score])}' for score in SCORES)
        weights = ', '.join(filter(None, [describe_weights(row), f'gamma {row["gamma"]}']))
        print(f'best {mode}: {weights}: {scores}')


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
