"""Train ZegFormer on the procedural world, test it three ways, and draw what it sees; stopped, it goes on where it was.

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

from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

ROOT = Path(__file__).parents[2]
MODES = {'seg': 'segments named by text alone', 'img': "by CLIP's look at each segment", 'full': 'by both (ZegFormer)'}
SCORES = ('seen_mIoU', 'unseen_mIoU', 'hIoU')
BAR = 30
# For trainings on a CPU: the C library keeps freed memory, in large pages, instead of asking the system for it again at
# every tensor. An eighth less time; what glibc alone reads, others ignore.
KEEP_MEMORY = dict(
    MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**31), GLIBC_TUNABLES='glibc.malloc.hugetlb=1'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/zegformer_r18_world.py', help='config file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'), help='folder for everything')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='change fields, in training and test: key=value ...'
    )
    return parser.parse_args()


def lines_of(tool: str, *arguments: object, log: Path) -> Iterator[str]:
    """Lines that a tool prints, also kept in a log; ValueError with its own error where it fails."""
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    last = ''
    with log.open('a') as kept:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=KEEP_MEMORY | os.environ
        )
        try:
            for line in process.stdout:
                kept.write(line)
                last = line.strip() or last
                yield line
        finally:
            # Ctrl-C and an error here end the tool too.
            if process.poll() is None and not process.stdout.closed:
                process.stdout.close()
                process.terminate()
            code = process.wait()
    if code:
        raise ValueError(f'{last.removeprefix("mmzeg: error: ")} ({tool}; all it printed is in {log})')


def train(args: argparse.Namespace, iters: int) -> Path:
    """The checkpoint of the last iteration, trained now unless it is there."""
    checkpoint = args.work_dir / f'iter_{iters}.pth'
    if checkpoint.exists():
        print(f'{checkpoint} is there: not trained again (remove {args.work_dir} for a new start)')
        return checkpoint
    arguments = [args.config, '--work-dir', args.work_dir, '--resume', *options(args.cfg_options)]
    began, first = time.time(), None
    for line in lines_of('tools/train.py', *arguments, log=args.work_dir / 'train.log'):
        if 'resumed' in line.lower():
            print(line.split(' - ')[-1].strip())
        found = re.search(r'Iter\(train\) \[ *(\d+)/\d+\].*? loss: ([\d.]+)', line)
        if found:
            done, loss = int(found[1]), found[2]
            if first is None:
                first, began = done, time.time()
                continue
            left = (time.time() - began) / (done - first) * (iters - done)
            full = BAR * done // iters
            bar = '#' * full + '.' * (BAR - full)
            print(f'\r[{bar}] {done}/{iters}, loss {loss}, {left / 60:.1f} min left   ', end='', flush=True)
    print()
    return checkpoint


def test(args: argparse.Namespace, checkpoint: Path, mode: str) -> dict[str, float]:
    """Scores of a fusion mode on the test split, as tools/test.py prints them."""
    fields = options([*args.cfg_options, f'model.fusion.mode={mode}'])
    arguments = [args.config, checkpoint, '--work-dir', args.work_dir / mode, *fields]
    metrics = {}
    for line in lines_of('tools/test.py', *arguments, log=args.work_dir / f'test_{mode}.log'):
        step = re.search(r'Iter\(test\) \[ *(\d+/\d+)\]', line)
        if step:
            print(f'\r{mode}: {step[1]}   ', end='', flush=True)
            metrics.update((name, float(value)) for name, value in re.findall(r'(\w+): +([\d.]+|nan)', line))
    print()
    return {score: metrics[score] for score in SCORES}


def options(fields: list[str]) -> list[str]:
    """``--cfg-options`` of these fields, or nothing."""
    return ['--cfg-options', *fields] if fields else []


@one_line_errors
def main() -> None:
    args = parse_args()
    os.chdir(ROOT)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    cfg = read_config(args.config)
    seen, unseen = len(cfg.seen_classes), len(cfg.unseen_classes)
    print(f'1/3 training on {seen} seen classes ({unseen} are never labelled), about 10 minutes on two cores')
    start = time.time()
    iters = [int(field.split('=')[1]) for field in args.cfg_options if field.startswith('train_cfg.max_iters=')]
    checkpoint = train(args, iters[-1] if iters else cfg.train_cfg.max_iters)
    print(f'2/3 testing on {seen + unseen} classes, {unseen} of them unseen')
    table = PrettyTable(['mode', '', *SCORES], align='l')
    for mode, meaning in MODES.items():
        metrics = test(args, checkpoint, mode)
        table.add_row([mode, meaning, *(f'{metrics[score]:.1f}' for score in SCORES)])
    print('3/3 drawing', flush=True)
    picture = args.work_dir / 'picture.png'
    for _ in lines_of(
        'tools/world/picture.py',
        args.config,
        checkpoint,
        picture,
        *options(args.cfg_options),
        log=args.work_dir / 'picture.log',
    ):
        pass
    print(
        f'\n{table}\n\nseen, unseen: mean IoU in percent; hIoU: their harmonic mean. {(time.time() - start) / 60:.1f} '
        f'minutes.\nLook at {picture}. Then try:\n'
    )
    python = Path(sys.executable)
    python = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    print(f'  {python} tools/analysis_tools/sweep.py {args.config} {checkpoint} --gamma 0:0.5:0.1 --lam 0.5,0.67,0.8')
    print(f'  {python} tools/analysis_tools/diagnose.py {args.config} {checkpoint}')
    print(f'  {python} tools/train.py configs/per-pixel_r18_world.py')


if __name__ == '__main__':
    main()
