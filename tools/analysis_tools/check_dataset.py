"""Read every file of a dataset before a long training: report its classes and its problems.

python tools/analysis_tools/check_dataset.py configs/zegformer_r101_coco.py --split train --json report.json

Problems: unknown label values, other sizes than the image's, unreadable or missing files, images in training and
evaluation, joined datasets that do not fit. Warnings: images that loading changes (16 bits, transparency, EXIF
orientation), copies, images and classes without labels.

The exit code is 1 if there are problems, and 0 if there are only warnings.
"""

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import DictAction
from prettytable import PrettyTable

from mmzeg.datasets.dataset_report import DatasetReport
from mmzeg.utils.atomic import write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

MAX_LINES = 20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='which dataloader to check')
    parser.add_argument('--json', type=Path, help='also write the report to this file, with all lines and images')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='number of processes that read files')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def print_report(report: DatasetReport) -> None:
    """Print classes, warnings and problems."""
    table = PrettyTable(['class', '', 'images', 'pixels', '%'], align='r')
    table.align['class'] = 'l'
    rows = report.class_rows()
    total = sum(row['pixels'] for row in rows) or 1
    for row in rows:
        percentage = f'{100 * row["pixels"] / total:.3f}'
        table.add_row([row['name'], row['mark'], row['images'], row['pixels'], percentage])
    print(f'\n{table}\n{report.num_images} images')
    for kind, lines in (('warning', report.all_warnings()), ('wrong', report.problems)):
        for line in lines[:MAX_LINES]:
            print(f'{kind}: {line}')
        if len(lines) > MAX_LINES:
            print(f'{kind}: and {len(lines) - MAX_LINES} more (--json lists all)')


@one_line_errors
def main() -> None:
    args = parse_args()
    # Fail before the reading if the folder cannot be made.
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    cfg = read_config(args.config, args.cfg_options)
    report = DatasetReport.from_config(cfg, args.split, args.workers)
    print_report(report)
    if args.json:
        write_json(args.json, report.to_dict())
    sys.exit(1 if report.problems else 0)


if __name__ == '__main__':
    main()
