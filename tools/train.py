"""Train a config with mmengine's runner; the flags are mmseg's."""

import argparse
import os
from pathlib import Path

from mmengine.config import DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmzeg.engine import ensure_check_hooks
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_config, one_line_errors
from mmzeg.utils.processes import use_gloo_without_gpu
from mmzeg.utils.tool_arguments import add_trust_argument


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    add_trust_argument(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--resume', action='store_true', help='continue from the last complete checkpoint in the work dir'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    # Apply the options.
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    if args.amp and cfg.optim_wrapper.type == 'OptimWrapper':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    cfg.resume = args.resume or cfg.get('resume', False)
    # Check, then train.
    check_config(cfg, ('train_dataloader', 'val_dataloader'))
    use_gloo_without_gpu(cfg)
    runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    ensure_check_hooks(runner)
    runner.train()


if __name__ == '__main__':
    main()
