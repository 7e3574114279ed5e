"""Read every file of a dataset before days of training: what is in it, and what is wrong with it.

python tools/analysis_tools/check_dataset.py configs/zegformer_r101_coco.py --split train --json report.json

Ends with exit code 1 where something is wrong, 0 where there are warnings alone.
"""

import argparse
import json
import sys
from multiprocessing import Pool
from os import cpu_count
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from mmseg.utils import register_all_modules
from prettytable import PrettyTable

from mmzeg.datasets.coco_numbering import find_numbering_problems
from mmzeg.datasets.dataset_report import DatasetReport, inspect, list_samples
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import datasets_of, one_line_errors

SHOWN = 20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='which dataloader of it')
    parser.add_argument('--json', type=Path, help='also write everything to this file')
    parser.add_argument('--workers', type=int, default=cpu_count(), help='processes that read')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def survey(cfg: Config, split: str, workers: int) -> DatasetReport:
    """Read every image and label map of a split, and the images of the other, which may repeat some."""
    found = DatasetReport(cfg.get('unseen_classes', ()), training=split == 'train')
    other = 'val' if split == 'train' else 'train'
    samples = []
    for dataset in datasets_of(cfg[f'{split}_dataloader'].dataset):
        listed, classes, faults = list_samples(dataset)
        found.expect(classes)
        found.faults.extend(faults)
        samples.extend(listed)
    repeated = []
    if cfg.get(f'{other}_dataloader'):
        for dataset in datasets_of(cfg[f'{other}_dataloader'].dataset):
            try:
                repeated.extend(dict(sample, seg_map_path=None) for sample in list_samples(dataset)[0])
            except FileNotFoundError as error:
                found.warnings.append(f'{error}: images that are in {split} and {other} were not looked for')
    with Pool(workers) as pool:
        for part, add in ((samples, found.add), (repeated, found.add_other)):
            results = pool.imap(inspect, part, chunksize=16)
            for result in track_iter_progress((results, len(part)), file=sys.stderr):
                add(result)
    if any(dataset.type == 'COCOStuffDataset' for dataset in datasets_of(cfg[f'{split}_dataloader'].dataset)):
        found.faults[:0] = find_numbering_problems(found.images_of, found.images)
    return found


def show(found: DatasetReport) -> None:
    """Print classes, warnings and faults."""
    table = PrettyTable(['class', '', 'images', 'pixels', '%'], align='r')
    table.align['class'] = 'l'
    total = sum(row['pixels'] for row in found.rows()) or 1
    for row in found.rows():
        table.add_row([row['name'], row['mark'], row['images'], row['pixels'], f'{100 * row["pixels"] / total:.3f}'])
    print(f'\n{table}\n{found.images} images')
    for kind, lines in (('warning', found.all_warnings()), ('wrong', found.faults)):
        for line in lines[:SHOWN]:
            print(f'{kind}: {line}')
        if len(lines) > SHOWN:
            print(f'{kind}: and {len(lines) - SHOWN} more (--json lists all)')


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    cfg = read_config(args.config, args.cfg_options)
    if not cfg.get(f'{args.split}_dataloader'):
        raise ValueError(f'{args.config}: no {args.split}_dataloader: give it one, or take another --split')
    register_all_modules(init_default_scope=False)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    found = survey(cfg, args.split, args.workers)
    show(found)
    if args.json:
        report = dict(classes=found.rows(), images=found.images, warnings=found.all_warnings(), wrong=found.faults)
        atomic_write(args.json, lambda path: path.write_text(json.dumps(report, indent=1)))
    sys.exit(1 if found.faults else 0)


if __name__ == '__main__':
    main()
