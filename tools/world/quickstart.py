"""Train ZegFormer on the procedural dataset, test three fusion modes, and draw results; resumes where it was stopped.

python tools/world/quickstart.py
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from prettytable import PrettyTable

from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.processes import training_environment

ROOT = Path(__file__).parents[2]
MODES = {
    'seg': 'text embeddings only',
    'img': 'CLIP only (masked and unmasked crops)',
    'full': 'ensemble of both',
}
BAR_LENGTH = 30


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/zegformer_r18_world.py', help='config file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'), help='folder for all files')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='change fields, in training and test: key=value ...'
    )
    return parser.parse_args()


def run_tool(tool: str, *arguments: object, log: Path) -> Iterator[str]:
    """Run a tool and yield the lines that it prints.

    Args:
        tool (str): Its file, from the repository's root.
        arguments (object): Its arguments.
        log (Path): File that the lines are appended to.

    Raises:
        ValueError: The tool failed; the message is its own.
    """
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    last_line = ''
    with log.open('a') as log_file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=training_environment()
        )
        try:
            for line in process.stdout:
                log_file.write(line)
                last_line = line.strip() or last_line
                yield line
        finally:
            # Ctrl-C, or an error in this process, also ends the tool.
            if process.poll() is None and not process.stdout.closed:
                process.stdout.close()
                process.terminate()
            code = process.wait()
    if code:
        raise ValueError(f'{last_line.removeprefix("mmzeg: error: ")} ({tool}; its complete output is in {log})')


def train(args: argparse.Namespace, iters: int) -> Path:
    """Train unless the checkpoint of the last iteration exists, and return that checkpoint."""
    checkpoint = args.work_dir / f'iter_{iters}.pth'
    if checkpoint.exists():
        print(f'{checkpoint} exists: not trained again (remove {args.work_dir} to train from the beginning)')
        return checkpoint
    arguments = [args.config, '--work-dir', args.work_dir, '--resume', *cfg_options(args.cfg_options)]
    start_time = time.time()
    start_iter = None
    for line in run_tool('tools/train.py', *arguments, log=args.work_dir / 'train.log'):
        if 'resumed' in line.lower():
            print(line.split(' - ')[-1].strip())
        match = re.search(r'Iter\(train\) \[ *(\d+)/\d+\].*? loss: ([\d.]+)', line)
        if match is None:
            continue
        iteration = int(match[1])
        # The clock starts at the first logged iteration, after everything is loaded
        if start_iter is None:
            start_iter = iteration
            start_time = time.time()
            continue
        seconds_left = (time.time() - start_time) / (iteration - start_iter) * (iters - iteration)
        filled = BAR_LENGTH * iteration // iters
        bar = '#' * filled + '.' * (BAR_LENGTH - filled)
        status = f'{iteration}/{iters}, loss {match[2]}, {seconds_left / 60:.1f} min left'
        print(f'\r[{bar}] {status}   ', end='', flush=True)
    print()
    return checkpoint


def test(args: argparse.Namespace, checkpoint: Path, mode: str) -> dict[str, float]:
    """Test a fusion mode on the test split, and return the scores that tools/test.py prints."""
    options = cfg_options([*args.cfg_options, f'model.fusion.mode={mode}'])
    arguments = [args.config, checkpoint, '--work-dir', args.work_dir / mode, *options]
    metrics = {}
    for line in run_tool('tools/test.py', *arguments, log=args.work_dir / f'test_{mode}.log'):
        match = re.search(r'Iter\(test\) \[ *(\d+/\d+)\]', line)
        if match:
            print(f'\r{mode}: {match[1]}   ', end='', flush=True)
            metrics.update((name, float(value)) for name, value in re.findall(r'(\w+): +([\d.]+|nan)', line))
    print()
    return {score: metrics[score] for score in SCORES}


def draw(args: argparse.Namespace, checkpoint: Path) -> Path:
    """Draw test scenes and their predictions, and return the figure's file."""
    figure = args.work_dir / 'figure.png'
    arguments = [args.config, checkpoint, figure, *cfg_options(args.cfg_options)]
    for _ in run_tool('tools/world/figure.py', *arguments, log=args.work_dir / 'figure.log'):
        pass
    return figure


def cfg_options(fields: list[str]) -> list[str]:
    """Return ``--cfg-options`` and the fields; nothing without fields."""
    return ['--cfg-options', *fields] if fields else []


def print_next_commands(config: str, checkpoint: Path) -> None:
    """Print commands to continue with."""
    python = Path(sys.executable)
    python = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    print(f'  {python} tools/analysis_tools/sweep.py {config} {checkpoint} --gamma 0:0.5:0.1 --lam 0.5,0.67,0.8')
    print(f'  {python} tools/analysis_tools/diagnose.py {config} {checkpoint}')
    print(f'  {python} tools/train.py configs/per-pixel_r18_world.py')


@one_line_errors
def main() -> None:
    args = parse_args()
    os.chdir(ROOT)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    start = time.time()
    # Train
    cfg = read_config(args.config)
    num_seen = len(cfg.seen_classes)
    num_unseen = len(cfg.unseen_classes)
    print(f'1/3 training on {num_seen} seen classes, {num_unseen} are unseen; about 10 minutes on two cores')
    iters = [int(field.split('=')[1]) for field in args.cfg_options if field.startswith('train_cfg.max_iters=')]
    checkpoint = train(args, iters[-1] if iters else cfg.train_cfg.max_iters)
    # Test
    print(f'2/3 testing on {num_seen + num_unseen} classes, {num_unseen} of them unseen')
    table = PrettyTable(['mode', '', *SCORES], align='l')
    for mode, meaning in MODES.items():
        metrics = test(args, checkpoint, mode)
        table.add_row([mode, meaning, *(f'{metrics[score]:.1f}' for score in SCORES)])
    # Draw
    print('3/3 drawing', flush=True)
    figure = draw(args, checkpoint)
    print(
        f'\n{table}\n\nseen_mIoU, unseen_mIoU: mean IoU in percent; hIoU: their harmonic mean. '
        f'{(time.time() - start) / 60:.1f} minutes.\nOpen {figure}. Then try:\n'
    )
    print_next_commands(args.config, checkpoint)


if __name__ == '__main__':
    main()
