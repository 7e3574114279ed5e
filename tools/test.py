"""Test a checkpoint with mmengine's runner; the flags are mmseg's."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from mmzeg.engine import ensure_check_hooks
from mmzeg.evaluation.report import make_report
from mmzeg.utils.atomic import write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_config, datasets_of, one_line_errors
from mmzeg.utils.processes import use_gloo_without_gpu
from mmzeg.utils.relative_names import configured_image_folders
from mmzeg.utils.tool_arguments import add_trust_argument
from mmzeg.utils.weight_files import NO_WEIGHTS, check_weightless
from mmzeg.vocabulary import Vocabulary


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; "none" for masks from files')
    add_trust_argument(parser)
    parser.add_argument('--work-dir', help='folder for the log and the metrics (default: work_dirs/CONFIG)')
    parser.add_argument('--out', help='folder for the predicted label maps')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='folder for images of the predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def count_classes(cfg: Config) -> int:
    """Return the number of classes that a config's model predicts."""
    heads = cfg.model.decode_head
    head = heads[-1] if isinstance(heads, (list, tuple)) else heads
    return len(Vocabulary.build(head.classifier.vocabulary)) if 'classifier' in head else head.num_classes


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    if args.out and count_classes(cfg) > 256:
        raise ValueError(
            f'{args.config}: --out writes label maps of 8 bits, and there are more than 256 classes: '
            'use tools/demo.py --save-masks'
        )
    # Apply the options.
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    has_no_weights = args.checkpoint == NO_WEIGHTS
    if has_no_weights and args.launcher != 'none':
        raise ValueError('--launcher: a model without weights is tested in one process: leave the option out')
    cfg.load_from = None if has_no_weights else args.checkpoint
    if args.show or args.show_dir:
        # Draw every image; mmseg's default is each 50th.
        cfg.default_hooks.visualization.update(draw=True, interval=1, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        if 'tta_pipeline' not in cfg:
            raise ValueError(f'{args.config}: --tta needs a tta_pipeline in the config')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        # Test-time augmentation averages semantic maps.
        cfg.model.test_cfg.return_logits = True
        cfg.tta_model.module = cfg.model
        cfg.model = ConfigDict(cfg.tta_model)
    # The report leaves out where predictions are written: it decides no result.
    reported_cfg = cfg.copy()
    if args.out:
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        folders = configured_image_folders(datasets_of(cfg.test_dataloader.dataset))
        writer = dict(type='mmzeg.LabelMapWriter', output_dir=args.out, image_folders=folders)
        cfg.test_evaluator = [*evaluators, writer]
    # Check, test, and write the report.
    check_config(cfg, ('test_dataloader',))
    use_gloo_without_gpu(cfg)
    runner = Runner.from_cfg(cfg)
    if has_no_weights:
        check_weightless(runner.model)
    ensure_check_hooks(runner)
    metrics = runner.test()
    if runner.rank == 0:
        report = make_report(reported_cfg, runner.model, metrics, runner.test_evaluator.metrics)
        path = Path(runner.work_dir, 'report.json')
        write_json(path, report)
        runner.logger.info(f'{path}: the results and everything that decides them')


if __name__ == '__main__':
    main()
