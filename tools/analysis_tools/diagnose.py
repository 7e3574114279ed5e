"""Measure whether a ZegFormer loses by its masks or by its classification: upper bounds, and the recall of masks.

python tools/analysis_tools/diagnose.py CONFIG CHECKPOINT
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.utils import track_iter_progress

from mmzeg.evaluation.diagnosis import Diagnosis, diagnosis_table
from mmzeg.evaluation.loading import ignore_index_of, load_for_evaluation, require_scorer
from mmzeg.utils.atomic import write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('--data', choices=['val', 'test'], default='test', help='the data loader to evaluate')
    parser.add_argument('--out', type=Path, help='JSON file for the results')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    runner, loader = load_for_evaluation(cfg, args.checkpoint, args.data)
    diagnosis = Diagnosis(runner.model, ignore_index_of(cfg, args.data))
    for batch in track_iter_progress((loader, len(loader))):
        diagnosis.process(batch)
    results = diagnosis.results()
    print(f'\n{diagnosis_table(results)}')
    if args.out:
        write_json(args.out, results)


if __name__ == '__main__':
    main()
