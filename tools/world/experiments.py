"""Train and test every variant on the procedural dataset, over several seeds, as one table; resumes where it stopped.

python tools/world/experiments.py --work-dir work_dirs/world --seeds 0 1 2

Every variant is trained once with some of its seen classes held out as if unseen, to choose gamma and lambda on the val
split; then once per seed with all of them, and tested with these settings.
"""

import argparse
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from mmengine.config import Config
from prettytable import PrettyTable

from mmzeg.datasets.world import SEEN
from mmzeg.evaluation.diagnosis import TRUE_MASKS, TRUE_NAMES
from mmzeg.evaluation.sweep_run import best_row
from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.processes import run_program

ROOT = Path(__file__).parents[2]
# Seven objects and a texture, as the unseen classes are.
HELD_OUT = ('airplane', 'queen', 'flower', 'scissors', 'hand', 'gear', 'music note', 'sand')
GAMMAS = '0,0.02,0.05,0.1,0.15,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9'
LAMS = '0.5,0.67,0.8,0.9,0.95,1'
# Changes of the scorer: crops, masks and prompts. Tested with the main variant's weights.
SCORERS = {
    'crop': ['model.scorer.crop_mode=crop'],
    'mask': ['model.scorer.crop_mode=mask'],
    'cropmask (published)': ['model.scorer.crop_mode=cropmask'],
    'crop + cropmask': ['model.scorer.crop_mode=[crop,cropmask]'],
    'crop + cropmask, masks merged': ['model.scorer.crop_mode=[crop,cropmask]', 'model.scorer.merge_iou_thr=0.4'],
    'cropmask, masks not dilated': ['model.scorer.crop_mode=cropmask', 'model.scorer.mask_dilation=0'],
    'cropmask, one prompt': ['model.scorer.crop_mode=cropmask', 'model.scorer.prompts=single'],
    'cropmask, 80 prompts': ['model.scorer.crop_mode=cropmask', 'model.scorer.prompts=imagenet'],
}


@dataclass(frozen=True)
class Variant:
    """A config, and the fusion modes that it is tested in."""

    name: str
    config: str
    modes: tuple[str, ...] = ('seg', 'img', 'full', 'unseen')

    @property
    def folder(self) -> str:
        """Folder of its files in the work dir."""
        return Path(self.config).stem

    @property
    def has_segments(self) -> bool:
        """Whether it classifies segments, not pixels."""
        return self.modes != ('pixel',)


MAIN = Variant('ignore_unlabelled_in_masks', 'configs/zegformer_r18_world.py')
VARIANTS = (
    MAIN,
    Variant('released losses', 'configs/zegformer_r18_world_published.py'),
    Variant('per pixel', 'configs/per-pixel_r18_world.py', ('pixel',)),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/world'), help='folder for all files')
    names = [variant.name for variant in VARIANTS]
    parser.add_argument('--variants', nargs='+', choices=names, default=names, help='the first is always included')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='one training per seed')
    parser.add_argument('--iters', type=int, help="iterations of every training (default: the config's)")
    parser.add_argument('--jobs', type=int, default=2, help='trainings at a time, which divide the cores among them')
    return parser.parse_args()


class Experiments:
    """Run trainings and evaluations whose results do not exist yet, and read the results.

    Args:
        work_dir (Path): Folder of all files.
        iters (int, optional): Iterations of a training. Defaults to the main variant's config.
        jobs (int): Number of processes at a time.
    """

    def __init__(self, work_dir: Path, iters: int | None, jobs: int) -> None:
        self.work_dir = work_dir
        self.iters = iters or Config.fromfile(ROOT / MAIN.config).train_cfg.max_iters
        self._pool = ThreadPoolExecutor(jobs)
        self._num_threads = max(1, (os.cpu_count() or 1) // jobs)

    def train(self, variant: Variant, seed: int | None) -> Path:
        """Train a variant and return its last checkpoint.

        Args:
            variant (Variant): What to train.
            seed (int, optional): Of the training. None: the training with ``HELD_OUT`` held out.

        Raises:
            ValueError: The folder has a training with another number of iterations, or the training fails.
        """
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
        """Return the rows of tools/analysis_tools/sweep.py.

        Args:
            variant (Variant): What to evaluate, in all its modes.
            seed (int, optional): Of the training, evaluated on the test split. None: the training with ``HELD_OUT``
                held out, on the val split.
            name (str): Folder of the results.
            options (str): Further options of the tool.
        """
        split = ('--data', 'test') if seed is not None else ('--data', 'val', '--held-out', ','.join(HELD_OUT))
        options = (*split, '--modes', *variant.modes, *options)
        return self._result('sweep.py', variant, seed, name, f'{name}/sweep.json', *options)['rows']

    def diagnose(self, variant: Variant, seed: int) -> dict:
        """Return the results of tools/analysis_tools/diagnose.py on the test split."""
        return self._result('diagnose.py', variant, seed, 'diagnosis.json', 'diagnosis.json')

    def choose_settings(self, variant: Variant) -> dict[str, dict]:
        """Return, for every mode, the row of the sweep that is best on the held-out classes."""
        self.train(variant, None)
        rows = self.sweep(variant, None, 'held_out', '--gamma', GAMMAS, '--lam', LAMS)
        return {mode: best_row(rows, mode) for mode in variant.modes}

    def run_parallel(self, function: Callable, calls: list[tuple]) -> list:
        """Return function(*call) for every call."""
        return list(self._pool.map(lambda call: function(*call), calls))

    def _folder(self, variant: Variant, seed: int | None) -> Path:
        return self.work_dir / variant.folder / ('held_out' if seed is None else f'seed_{seed}')

    def _config(self, variant: Variant, seed: int | None) -> Config:
        cfg = Config.fromfile(ROOT / variant.config)
        # No validation in the training: sweep and diagnosis evaluate its last checkpoint.
        cfg.train_cfg.update(max_iters=self.iters, val_interval=self.iters + 1)
        cfg.param_scheduler[-1].end = self.iters
        cfg.randomness = dict(seed=seed or 0)
        if seed is None:
            hold_out(cfg)
        return cfg

    def _result(self, tool: str, variant: Variant, seed: int | None, out: str, result: str, *options: str) -> dict:
        """Run an analysis tool unless its result exists for the same options, and return the result.

        Args:
            tool (str): Its file name.
            variant, seed: Which training.
            out (str): The tool's ``--out``, in the training's folder.
            result (str): JSON file that the tool writes, in the training's folder.
            options (str): Further options of the tool.
        """
        folder = self._folder(variant, seed)
        stem = out.removesuffix('.json')
        # This file holds the options of an existing result.
        options_file = folder / f'{stem}.options'
        current_options = json.dumps([self.iters, *options])
        is_current = (
            (folder / result).exists() and options_file.exists() and options_file.read_text() == current_options
        )
        if not is_current:
            options_file.unlink(missing_ok=True)
            arguments = (folder / 'config.py', self.train(variant, seed), '--out', folder / out, *options)
            self._run(f'tools/analysis_tools/{tool}', *arguments, log=folder / f'{stem}.log')
            atomic_write(options_file, lambda partial: partial.write_text(current_options))
        return json.loads((folder / result).read_text())

    def _run(self, tool: str, *arguments: object, log: Path) -> None:
        run_program(ROOT / tool, *arguments, log=log, num_threads=self._num_threads)


def hold_out(cfg: Config) -> None:
    """Remove ``HELD_OUT`` from the training classes of a world config, and make them its only unseen classes."""
    seen = [name for name in SEEN if name not in HELD_OUT]
    cfg.train_dataloader.dataset.metainfo = dict(classes=seen)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=[*seen, *HELD_OUT], unseen_classes=list(HELD_OUT))
    cfg.model.decode_head.classifier.vocabulary = dict(classes=[*seen, *HELD_OUT], unseen=list(HELD_OUT))


def sweep_options(chosen: dict[str, dict]) -> tuple[str, ...]:
    """Return options of sweep.py for the chosen settings, each also without calibration."""
    lams = sorted({row['lam'] for row in chosen.values()})
    gammas = sorted({0.0, *(row['gamma'] for row in chosen.values())})
    return '--gamma', ','.join(map(str, gammas)), '--lam', ','.join(map(str, lams))


def format_mean(values: list[float]) -> str:
    """Format mean and standard deviation; only the mean for one value."""
    spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{spread}'


def score_cells(rows: list[dict]) -> list[str]:
    """Return table cells of seen mIoU, unseen mIoU and hIoU over the rows of all seeds."""
    return [format_mean([row[score] for row in rows]) for score in SCORES]


def add_mode_rows(
    table: PrettyTable, runs: Experiments, variants: list[Variant], seeds: list[int], chosen: dict
) -> None:
    """Sweep the chosen settings of every variant on the test split, and add them to a table."""
    calls = [(variant, seed, 'test', *sweep_options(chosen[variant])) for variant in variants for seed in seeds]
    sweeps = dict(zip([call[:2] for call in calls], runs.run_parallel(runs.sweep, calls), strict=True))
    for variant in variants:
        for mode, best in chosen[variant].items():
            for gamma in dict.fromkeys([0.0, best['gamma']]):
                setting = (mode, best['lam'], gamma)
                rows = [
                    next(row for row in sweeps[variant, seed] if (row['mode'], row['lam'], row['gamma']) == setting)
                    for seed in seeds
                ]
                table.add_row([variant.name, mode, best['lam'], gamma, *score_cells(rows)])


def add_diagnosis_rows(table: PrettyTable, runs: Experiments, variants: list[Variant], seeds: list[int]) -> list[str]:
    """Diagnose every variant on the test split, add the upper bounds to a table, and return lines about recall."""
    calls = [(variant, seed) for variant in variants for seed in seeds]
    diagnoses = dict(zip(calls, runs.run_parallel(runs.diagnose, calls), strict=True))
    lines = []
    for variant in variants:
        for name in (TRUE_MASKS, TRUE_NAMES):
            rows = [diagnoses[variant, seed][name] for seed in seeds]
            table.add_row([variant.name, name, '', '', *score_cells(rows)])
        recalls = [diagnoses[variant, seed]['recall'] for seed in seeds]
        cells = [f'{name} {format_mean([recall[name] for recall in recalls])} %' for name in ('seen', 'unseen')]
        lines.append(f'{variant.name}: recall of masks at IoU 0.5: {", ".join(cells)}')
    return lines


def scorer_table(runs: Experiments, seeds: list[int], setting: dict) -> PrettyTable:
    """Sweep every change of the scorer on the test split, with the main variant's weights."""
    options = ('--lam', str(setting['lam']), '--gamma', str(setting['gamma']), '--cfg-options')
    calls = [
        (MAIN, seed, f'scorer_{index}', *options, *fields)
        for index, fields in enumerate(SCORERS.values())
        for seed in seeds
    ]
    sweeps = iter(runs.run_parallel(runs.sweep, calls))
    table = PrettyTable(['crops and prompts', 'mode', *SCORES], align='r')
    for name in SCORERS:
        rows = [row for _ in seeds for row in next(sweeps)]
        for mode in ('img', 'full'):
            table.add_row([name, mode, *score_cells([row for row in rows if row['mode'] == mode])])
    return table


@one_line_errors
def main() -> None:
    args = parse_args()
    runs = Experiments(args.work_dir, args.iters, args.jobs)
    variants = [variant for variant in VARIANTS if variant is MAIN or variant.name in args.variants]
    # Train, and choose settings on the held-out classes
    runs.run_parallel(runs.train, [(variant, seed) for variant in variants for seed in (None, *args.seeds)])
    settings = runs.run_parallel(runs.choose_settings, [(variant,) for variant in variants])
    chosen = dict(zip(variants, settings, strict=True))
    # Test with these settings
    table = PrettyTable(['variant', 'mode', 'lambda', 'gamma', *SCORES], align='r')
    add_mode_rows(table, runs, variants, args.seeds, chosen)
    recall = add_diagnosis_rows(table, runs, [variant for variant in variants if variant.has_segments], args.seeds)
    print(f'\n{table}', *recall, sep='\n')
    # Compare scorers
    setting = chosen[MAIN]['full']
    table = scorer_table(runs, args.seeds, setting)
    print(f'\nMain variant, lambda {setting["lam"]}, gamma {setting["gamma"]}\n{table}')


if __name__ == '__main__':
    main()
