"""Every variant on the procedural world, over several seeds, in one table; started again, it goes on where it was.

python tools/world/experiments.py --work-dir work_dirs/world --seeds 0 1 2

Every variant is trained once with some of its seen classes held out as if unseen, which chooses gamma and lambda on the
val split; then once a seed with all of them, tested with these settings.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from mmengine.config import Config
from prettytable import PrettyTable
from quickstart import KEEP_MEMORY

from mmzeg.datasets.world import SEEN
from mmzeg.evaluation.sweep_run import best_row
from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors

ROOT = Path(__file__).parents[2]
# Seven objects and a texture, as the unseen are.
HELD_OUT = ('airplane', 'queen', 'flower', 'scissors', 'hand', 'gear', 'music note', 'sand')
GAMMAS, LAMS = '0,0.02,0.05,0.1,0.15,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9', '0.5,0.67,0.8,0.9,0.95,1'
# Rows that differ in what CLIP is shown or told; tested with the main variant's weights.
SCORERS = {
    'crop': ['model.scorer.style=crop'],
    'mask': ['model.scorer.style=mask'],
    'cropmask (published)': ['model.scorer.style=cropmask'],
    'crop + cropmask': ['model.scorer.style=[crop,cropmask]'],
    'crop + cropmask, masks merged': ['model.scorer.style=[crop,cropmask]', 'model.scorer.merge_iou_thr=0.4'],
    'cropmask, masks not grown': ['model.scorer.style=cropmask', 'model.scorer.grow=0'],
    'cropmask, one prompt': ['model.scorer.style=cropmask', 'model.scorer.prompts=single'],
    'cropmask, 80 prompts': ['model.scorer.style=cropmask', 'model.scorer.prompts=imagenet'],
}


@dataclass(frozen=True)
class Variant:
    """A config, and the fusion modes that it is tested in."""

    name: str
    config: str
    modes: tuple[str, ...] = ('seg', 'img', 'full', 'unseen')

    @property
    def folder(self) -> str:
        """Where its files are kept, below the work dir."""
        return Path(self.config).stem


MAIN = Variant('ignore_unlabelled_in_masks', 'configs/zegformer_r18_world.py')
VARIANTS = (
    MAIN,
    Variant('published losses', 'configs/zegformer_r18_world_published.py'),
    Variant('per pixel', 'configs/per-pixel_r18_world.py', ('pixel',)),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/world'), help='folder for everything')
    names = [variant.name for variant in VARIANTS]
    parser.add_argument('--variants', nargs='+', choices=names, default=names, help='the first is always among them')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='a training each')
    parser.add_argument('--iters', type=int, help="iterations of every training (default: the config's)")
    parser.add_argument('--jobs', type=int, default=2, help='trainings side by side, each with its share of the cores')
    return parser.parse_args()


class Experiments:
    """Runs what is not there yet, and reads what is.

    Args:
        work_dir (Path): Where everything is kept.
        iters (int, optional): Iterations of a training. Defaults to the config's.
        jobs (int): Processes side by side.
    """

    def __init__(self, work_dir: Path, iters: int | None, jobs: int) -> None:
        self.work_dir = work_dir
        self.iters = iters or Config.fromfile(ROOT / MAIN.config).train_cfg.max_iters
        self._pool = ThreadPoolExecutor(jobs)
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        self._environment = KEEP_MEMORY | os.environ | dict(OMP_NUM_THREADS=threads)

    def train(self, variant: Variant, seed: int | None) -> Path:
        """The last checkpoint of a training; ``seed`` None: that with classes held out."""
        folder = self._folder(variant, seed)
        checkpoint = folder / f'iter_{self.iters}.pth'
        if not checkpoint.exists():
            config = folder / 'config.py'
            if config.exists() and Config.fromfile(config).train_cfg.max_iters != self.iters:
                raise ValueError(f'{folder}: trained for another number of iterations: give another --work-dir')
            folder.mkdir(parents=True, exist_ok=True)
            self._config(variant, seed).dump(config)
            self._run('tools/train.py', config, '--work-dir', folder, '--resume', log=folder / 'train.log')
        return checkpoint

    def sweep(self, variant: Variant, seed: int | None, name: str, *options: str) -> list[dict]:
        """Rows of tools/analysis_tools/sweep.py, on the val split where classes are held out and on test elsewhere."""
        data = ('--data', 'test') if seed is not None else ('--data', 'val', '--held-out', ','.join(HELD_OUT))
        options = (*data, '--modes', *variant.modes, *options)
        return self._result('sweep.py', variant, seed, name, f'{name}/sweep.json', *options)['rows']

    def diagnose(self, variant: Variant, seed: int) -> dict:
        """Figures of tools/analysis_tools/diagnose.py on the test split."""
        return self._result('diagnose.py', variant, seed, 'diagnosis.json', 'diagnosis.json')

    def settings(self, variant: Variant) -> dict[str, dict]:
        """For every mode the row that is best where classes are held out."""
        self.train(variant, None)
        rows = self.sweep(variant, None, 'held_out', '--gamma', GAMMAS, '--lam', LAMS)
        return {mode: best_row(rows, mode) for mode in variant.modes}

    def side_by_side(self, function: Callable, calls: list[tuple]) -> list:
        """Results of function(*call) for every call."""
        return list(self._pool.map(lambda call: function(*call), calls))

    def _folder(self, variant: Variant, seed: int | None) -> Path:
        return self.work_dir / variant.folder / ('held_out' if seed is None else f'seed_{seed}')

    def _config(self, variant: Variant, seed: int | None) -> Config:
        cfg = Config.fromfile(ROOT / variant.config)
        # Evaluated by what comes after.
        cfg.train_cfg.update(max_iters=self.iters, val_interval=self.iters + 1)
        cfg.param_scheduler[-1].end = self.iters
        cfg.randomness = dict(seed=seed or 0)
        if seed is None:
            hold_out(cfg)
        return cfg

    def _result(self, tool: str, variant: Variant, seed: int | None, out: str, result: str, *options: str) -> dict:
        """What a tool told to write to ``out`` has written to the JSON file ``result``."""
        folder, stem = self._folder(variant, seed), out.removesuffix('.json')
        # What was asked for when it was written; by other options it is made anew.
        kept, asked = folder / f'{stem}.asked', json.dumps([self.iters, *options])
        if not ((folder / result).exists() and kept.exists() and kept.read_text() == asked):
            kept.unlink(missing_ok=True)
            arguments = (folder / 'config.py', self.train(variant, seed), '--out', folder / out, *options)
            self._run(f'tools/analysis_tools/{tool}', *arguments, log=folder / f'{stem}.log')
            atomic_write(kept, lambda partial: partial.write_text(asked))
        return json.loads((folder / result).read_text())

    def _run(self, tool: str, *arguments: object, log: Path) -> None:
        print(f'{tool} -> {log}', flush=True)
        with log.open('a') as file:
            command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment).returncode
        if code:
            raise ValueError(f'{tool} ended with exit code {code}: see {log}')


def hold_out(cfg: Config) -> None:
    """Take ``HELD_OUT`` from the training classes of a world config and evaluate them as unseen, the unseen ignored."""
    seen = [name for name in SEEN if name not in HELD_OUT]
    cfg.train_dataloader.dataset.metainfo = dict(classes=seen)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=[*seen, *HELD_OUT], unseen_classes=list(HELD_OUT))
    cfg.model.decode_head.classifier.vocabulary = dict(classes=[*seen, *HELD_OUT], unseen=list(HELD_OUT))


def grid(chosen: dict[str, dict]) -> tuple[str, ...]:
    """Options of sweep.py that ask for the chosen settings, and for no calibration."""
    lams, gammas = ({row[name] for row in chosen.values()} for name in ('lam', 'gamma'))
    return '--gamma', ','.join(map(str, sorted({0.0, *gammas}))), '--lam', ','.join(map(str, sorted(lams)))


def figure(values: list[float]) -> str:
    """Mean and spread."""
    return f'{mean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def scores(rows: list[dict]) -> list[str]:
    """Cells of a table: seen, unseen and harmonic mean over the seeds' rows."""
    return [figure([row[score] for row in rows]) for score in SCORES]


@one_line_errors
def main() -> None:
    args = parse_args()
    runs = Experiments(args.work_dir, args.iters, args.jobs)
    variants = [variant for variant in VARIANTS if variant is MAIN or variant.name in args.variants]
    runs.side_by_side(runs.train, [(variant, seed) for variant in variants for seed in (None, *args.seeds)])
    chosen = dict(zip(variants, runs.side_by_side(runs.settings, [(variant,) for variant in variants]), strict=True))
    calls = [(variant, seed, 'test', *grid(chosen[variant])) for variant in variants for seed in args.seeds]
    swept = dict(zip([call[:2] for call in calls], runs.side_by_side(runs.sweep, calls), strict=True))
    table = PrettyTable(['variant', 'mode', 'lambda', 'gamma', *SCORES], align='r')
    for variant in variants:
        for mode, row in chosen[variant].items():
            for gamma in dict.fromkeys([0.0, row['gamma']]):
                key = (mode, row['lam'], gamma)
                rows = [
                    next(row for row in swept[variant, seed] if (row['mode'], row['lam'], row['gamma']) == key)
                    for seed in args.seeds
                ]
                table.add_row([variant.name, mode, row['lam'], gamma, *scores(rows)])
    segments = [variant for variant in variants if variant.modes != ('pixel',)]
    calls = [(variant, seed) for variant in segments for seed in args.seeds]
    found = dict(zip(calls, runs.side_by_side(runs.diagnose, calls), strict=True))
    for variant in segments:
        for name in ('true masks', 'true names'):
            rows = [found[variant, seed][name] for seed in args.seeds]
            table.add_row([variant.name, name, '', '', *scores(rows)])
    print(f'\n{table}')
    for variant in segments:
        recalls = [found[variant, seed]['recall'] for seed in args.seeds]
        cells = (f'{name} {figure([recall[name] for recall in recalls])} %' for name in ('seen', 'unseen'))
        print(f'{variant.name}: recall of masks at IoU 0.5: {", ".join(cells)}')
    settings = chosen[MAIN]['full']
    calls = [
        (
            MAIN,
            seed,
            f'scorer_{index}',
            '--lam',
            str(settings['lam']),
            '--gamma',
            str(settings['gamma']),
            '--cfg-options',
            *options,
        )
        for index, options in enumerate(SCORERS.values())
        for seed in args.seeds
    ]
    swept = iter(runs.side_by_side(runs.sweep, calls))
    table = PrettyTable(['what CLIP is shown', 'mode', *SCORES], align='r')
    for name in SCORERS:
        rows = [row for _ in args.seeds for row in next(swept)]
        for mode in ('img', 'full'):
            table.add_row([name, mode, *scores([row for row in rows if row['mode'] == mode])])
    print(f'\nMain variant, lambda {settings["lam"]}, gamma {settings["gamma"]}\n{table}')


if __name__ == '__main__':
    main()
