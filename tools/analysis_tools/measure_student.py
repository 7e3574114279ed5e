"""Train students of ZegFormer on labels that it wrote, and compare teacher and students; resumes where it stopped.

python tools/analysis_tools/measure_student.py world configs/zegformer_r18_world.py work_dirs/quickstart/iter_1000.pth
python tools/analysis_tools/measure_student.py camvid configs/zegformer_r18_camvid.py data/camvid
"""

import argparse
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.closed_set_inferencer import ClosedSetInferencer
from mmzeg.datasets.world import CLASSES
from mmzeg.evaluation.zero_shot_miou import SCORES
from mmzeg.labelling.ignored_folder import ignore_pixels
from mmzeg.labelling.manifest import read_manifest
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.processes import run_program
from mmzeg.utils.tables import format_score
from mmzeg.utils.tool_arguments import add_trust_argument

ROOT = Path(__file__).parents[2]
# A seed of the world that no other tool uses.
WORLD_SEED = 30
NUM_TIMED_IMAGES = 20
GROUND_TRUTH = 'ground truth'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    datasets = parser.add_subparsers(dest='dataset', required=True)
    world = datasets.add_parser('world', help='the procedural dataset: seen and unseen classes')
    world.add_argument('config', help="the teacher's config")
    world.add_argument('weights', type=Path, help="the teacher's checkpoint")
    add_trust_argument(world)
    world.add_argument('--scenes', type=int, default=2000, help='new scenes that the teacher labels')
    camvid = datasets.add_parser('camvid', help='photos: trains a teacher on one half, which labels the other')
    camvid.add_argument('config', help="the teacher's config")
    camvid.add_argument('data', type=Path, help='folder of CamVid, with images and annotations')
    for dataset in (world, camvid):
        dataset.add_argument('--work-dir', type=Path, default=Path('work_dirs/student'), help='folder for all files')
        dataset.add_argument('--student', choices=['segformer', 'fast_scnn'], default='segformer', help='the network')
        dataset.add_argument('--iters', type=int, default=10000, help='iterations of a student')
        dataset.add_argument(
            '--ignore-below', type=float, nargs='*', default=[0.05, 0.1, 0.2], help='margins, as of tools/label.py'
        )
    return parser.parse_args()


@dataclass(frozen=True)
class Experiment:
    """What the teacher labels, and what ground truth there is.

    Args:
        work_dir (Path): Folder of all files.
        cfg (Config): The teacher's, whose ``test_dataloader`` all models are tested on.
        config (Path): A file of ``cfg``.
        weights (Path): The teacher's checkpoint.
        images (Path): Images that the teacher labels.
        annotations (Path): Ground truth of these images.
        label_values (dict[str, int]): Class name -> value in that ground truth.
        student (str): The student's network.
        iters (int): Iterations of a student.
    """

    work_dir: Path
    cfg: Config
    config: Path
    weights: Path
    images: Path
    annotations: Path
    label_values: dict[str, int]
    student: str
    iters: int

    @property
    def labels(self) -> Path:
        """The folder of the teacher's labels, every pixel of which has one."""
        return self.work_dir / 'labels'

    def label(self) -> None:
        """Label the images with the teacher."""
        arguments = (self.config, self.weights, self.images, self.labels, '--save-scores')
        run_program(ROOT / 'tools/label.py', *arguments, log=self.work_dir / 'label.log')

    def test(self, config: Path, weights: Path, folder: Path) -> Mapping[str, float]:
        """Test a model, unless it has been tested, and return its metrics."""
        report = folder / 'report.json'
        if not report.is_file():
            run_program(ROOT / 'tools/test.py', config, weights, '--work-dir', folder, log=self.work_dir / 'test.log')
        return json.loads(report.read_text())['metrics']

    def train_student(self, name: str, labels: Path, uses_ground_truth: bool = False) -> tuple[Path, Path]:
        """Train a student, unless it has been trained.

        Args:
            name (str): Of its folder.
            labels (Path): A labelled folder.
            uses_ground_truth (bool): Whether to train on the ground truth of the same images. Defaults to False.

        Returns:
            tuple[Path, Path]: Config and checkpoint.
        """
        folder = self.work_dir / f'{self.student}_{self.iters}_{name}'
        checkpoint = folder / f'iter_{self.iters}.pth'
        config = folder / 'config.py'
        if not checkpoint.is_file():
            folder.mkdir(exist_ok=True)
            self._student_config(labels, uses_ground_truth).dump(config)
            run_program(ROOT / 'tools/train.py', config, '--work-dir', folder, '--resume', log=folder / 'train.log')
        return config, checkpoint

    def _student_config(self, labels: Path, uses_ground_truth: bool) -> Config:
        # The length of the training is one line; the schedule follows from it.
        path = labels / 'dataset.py'
        path.write_text(re.sub(r'^max_iters = \d+$', f'max_iters = {self.iters}', path.read_text(), flags=re.M))
        cfg = Config.fromfile(labels / f'train_{self.student}.py')
        # No validation; the last checkpoint is tested on the teacher's test split.
        cfg.train_cfg.val_interval = self.iters + 1
        cfg.randomness = dict(seed=0)
        cfg.test_dataloader = self.cfg.test_dataloader
        cfg.test_evaluator = self.cfg.test_evaluator
        if uses_ground_truth:
            for loader in (cfg.train_dataloader, cfg.val_dataloader):
                loader.dataset.labels = list(self.label_values.items())
                loader.dataset.data_prefix.seg_map_path = str(self.annotations.resolve())
        return cfg


def prepare_world(args: argparse.Namespace) -> Experiment:
    """Draw scenes of a seed that no training has used."""
    cfg = read_config(args.config)
    work_dir = args.work_dir / f'world_{args.scenes}'
    data = work_dir / 'data'
    size = cfg.test_dataloader.dataset.size
    options = ('--train', args.scenes, '--size', size, '--seed', WORLD_SEED)
    run_program(ROOT / 'tools/dataset_converters/world.py', data, *options, log=work_dir / 'world.log')
    return Experiment(
        work_dir=work_dir,
        cfg=cfg,
        config=Path(args.config),
        weights=args.weights,
        images=data / 'images/train',
        annotations=data / 'annotations/train',
        label_values={name: value for value, name in enumerate(CLASSES)},
        student=args.student,
        iters=args.iters,
    )


def prepare_camvid(args: argparse.Namespace) -> Experiment:
    """Train a teacher on every other training image; it will label the rest."""
    cfg = read_config(args.config)
    work_dir = args.work_dir / 'camvid'
    work_dir.mkdir(parents=True, exist_ok=True)
    stems = sorted(Path(name).stem for name in list_dir_or_file(args.data / 'images/train', list_dir=False))
    # The teacher's half is a list; the other one is a folder.
    teacher_list = work_dir / 'teacher.txt'
    teacher_list.write_text(''.join(f'{stem}\n' for stem in stems[::2]))
    images = work_dir / 'images'
    images.mkdir(exist_ok=True)
    for stem in stems[1::2]:
        shutil.copyfile(args.data / f'images/train/{stem}.jpg', images / f'{stem}.jpg')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(args.data.resolve())
    cfg.train_dataloader.dataset.ann_file = str(teacher_list.resolve())
    config = work_dir / 'teacher.py'
    cfg.dump(config)
    # Train
    iters = cfg.train_cfg.max_iters
    weights = work_dir / f'teacher/iter_{iters}.pth'
    if not weights.is_file():
        arguments = (config, '--work-dir', weights.parent, '--resume')
        run_program(ROOT / 'tools/train.py', *arguments, log=work_dir / 'teacher.log')
    return Experiment(
        work_dir=work_dir,
        cfg=cfg,
        config=config,
        weights=weights,
        images=images,
        annotations=args.data / 'annotations/train',
        label_values={name: value for value, name in enumerate(cfg.seen_classes)},
        student=args.student,
        iters=args.iters,
    )


def frames_per_second(inferencer: ZeroShotInferencer | ClosedSetInferencer, images: list[str]) -> float:
    """Return how many images an inferencer reads and segments in a second, one after another."""
    first, *others = images
    # What is done once is not timed.
    list(inferencer.stream(first))
    start = time.perf_counter()
    for item in inferencer.stream(others):
        if item['error'] is not None:
            raise ValueError(item['error'])
    return len(others) / (time.perf_counter() - start)


def percent_ignored(rows: list[dict]) -> float:
    """Return the percentage of ignored pixels in the label maps of a manifest's rows."""
    labelled = [row for row in rows if row['error'] is None]
    num_pixels = sum(row['width'] * row['height'] for row in labelled)
    return 100 * sum(row['ignored'] for row in labelled) / num_pixels


def measure(experiment: Experiment, margins: list[float]) -> list[list[str]]:
    """Label, train and test everything; returns the rows of the table."""
    experiment.label()
    images = sorted(map(str, experiment.images.iterdir()))[: NUM_TIMED_IMAGES + 1]
    # The teacher
    metrics = experiment.test(experiment.config, experiment.weights, experiment.work_dir / 'test_teacher')
    speed = frames_per_second(ZeroShotInferencer(experiment.cfg, experiment.weights), images)
    rows = [['ZegFormer', '', '', *score_cells(metrics), f'{speed:.1f}']]
    # The students: what they are trained on, the folder of the labels, and its share of ignored pixels
    students = [("teacher's", experiment.labels, percent_ignored(read_manifest(experiment.labels)))]
    for margin in margins:
        labels = experiment.work_dir / f'labels_{margin}'
        students.append(
            (f'--ignore-below {margin}', labels, percent_ignored(ignore_pixels(experiment.labels, labels, margin)))
        )
    students.append((GROUND_TRUTH, experiment.labels, 0.0))
    for title, labels, ignored in students:
        is_ceiling = title == GROUND_TRUTH
        name = 'ground_truth' if is_ceiling else labels.name
        config, checkpoint = experiment.train_student(name, labels, is_ceiling)
        metrics = experiment.test(config, checkpoint, config.parent / 'test')
        speed = frames_per_second(ClosedSetInferencer(Config.fromfile(config), checkpoint), images)
        rows.append([experiment.student, title, f'{ignored:.1f}', *score_cells(metrics), f'{speed:.1f}'])
    return rows


def score_cells(metrics: Mapping[str, float | None]) -> list[str]:
    """Return table cells of the scores, in percent."""
    return [format_score(metrics[score]) for score in SCORES]


@one_line_errors
def main() -> None:
    args = parse_args()
    experiment = prepare_world(args) if args.dataset == 'world' else prepare_camvid(args)
    rows = measure(experiment, args.ignore_below)
    header = ['model', 'labels', 'ignored pixels, %', *SCORES, 'images/s']
    for cells in (header, ['---'] * len(header), *rows):
        print(f'| {" | ".join(cells)} |')


if __name__ == '__main__':
    main()
