"""Compare scorer settings on a trained model of the procedural dataset: quality against time, as a table and a plot.

python tools/world/scorers.py configs/zegformer_r18_world.py CHECKPOINT --plot scorers.png
"""

import argparse
import itertools
from pathlib import Path

import matplotlib
from mmengine.config import DictAction
from prettytable import PrettyTable

from mmzeg.evaluation.loading import require_scorer
from mmzeg.evaluation.scorer_comparison import choose_settings, compare_scorers
from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.utils.atomic import atomic_write, write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tables import format_score
from mmzeg.utils.tool_arguments import add_trust_argument

PLOT_SUFFIXES = ('.png', '.pdf', '.svg')
MARKERS = 'osDv^<>Pp*hXd8H'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer on the world')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('--data', choices=['val', 'test'], default='test', help='the data loader to evaluate')
    parser.add_argument(
        '--settings', nargs='+', help='rows of the table, such as "FC-CLIP" "box only"; defaults to all'
    )
    parser.add_argument('--plot', type=Path, help='file for a plot of harmonic mean against time')
    parser.add_argument('--out', type=Path, help='JSON file for all rows')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def draw(rows: list[dict], path: Path) -> None:
    """Plot the harmonic mean against time."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for row, marker in zip(rows, itertools.cycle(MARKERS), strict=False):
        axes.plot(1000 * row['seconds'], row['hIoU'], marker, markersize=9, label=row['setting'])
    axes.set(xlabel='milliseconds per image', ylabel='harmonic mean of seen and unseen mIoU')
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=120))


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.plot and args.plot.suffix not in PLOT_SUFFIXES:
        raise ValueError(f'--plot {args.plot}: end its name with one of {", ".join(PLOT_SUFFIXES)}')
    settings = choose_settings(args.settings)
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    rows = compare_scorers(cfg, args.checkpoint, args.data, settings)
    table = PrettyTable(['setting', *SCORES, 'ms per image', 'segments scored per image', 'equal labels, %'], align='r')
    for row in rows:
        scores = [format_score(row[score]) for score in SCORES]
        milliseconds = f'{1000 * row["seconds"]:.0f}'
        table.add_row(
            [row['setting'], *scores, milliseconds, f'{row["scored_segments"]:.1f}', f'{row["equal_labels"]:.2f}']
        )
    print(f'\n{table}')
    if args.out:
        write_json(args.out, rows)
    if args.plot:
        draw(rows, args.plot)


if __name__ == '__main__':
    main()
