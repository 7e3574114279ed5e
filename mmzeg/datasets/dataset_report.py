"""Report what the files of a dataset hold, and what is wrong with them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import Pool

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from mmseg.utils import register_all_modules

from mmzeg.class_names import check_class_names
from mmzeg.datasets.coco_numbering import find_numbering_problems
from mmzeg.datasets.joined_datasets import find_join_problems
from mmzeg.datasets.sample_inspection import DOUBTS, inspect_sample, list_samples
from mmzeg.utils.preflight import datasets_of


class DatasetReport:
    """Sums over the files of a dataset, and what is wrong with them.

    Args:
        unseen (list[str]): Classes that no training label may have.
        training (bool): Whether the files are for training.

    Attributes:
        classes (list[str]): Class names of the dataset.
        num_images (int): Number of images.
        problems (list[str]): What has to be fixed, a line each.
        warnings (list[str]): What may be wrong with single files, a line each.
    """

    def __init__(self, unseen: Sequence[str], training: bool) -> None:
        self.unseen = set(check_class_names(unseen, 'unseen_classes'))
        self.training = training
        self.classes: list[str] = []
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.num_images = 0
        # Number of images that hold a value of the files.
        self._images_by_value: Counter[int] = Counter()
        # Pixels of a class index, and number of images that hold it.
        self._pixels: Counter[int] = Counter()
        self._images: Counter[int] = Counter()
        # Key of ``DOUBTS`` -> images.
        self._doubtful: dict[str, list[str]] = {key: [] for key in DOUBTS}
        # Digest of an image's file -> its path.
        self._path_of_digest: dict[bytes, str] = {}

    @classmethod
    def from_config(cls, cfg: Config, split: str, num_workers: int) -> DatasetReport:
        """Read every image and label map of a split, and compare its images with those of the other split.

        Args:
            cfg (Config): A config with dataloaders; the other split is ``val`` for ``train``, else ``train``.
            split (str): ``train``, ``val`` or ``test``.
            num_workers (int): Processes that read files.

        Raises:
            FileNotFoundError: A folder of the split does not exist, or its dataset is not kept in folders.
            ValueError: The config has no dataloader for the split.
        """
        if not cfg.get(f'{split}_dataloader'):
            raise ValueError(f'{cfg.filename}: no {split}_dataloader: add it, or choose another split')
        register_all_modules(init_default_scope=False)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        report = cls(cfg.get('unseen_classes', ()), training=split == 'train')

        # List the files of the split.
        report.problems.extend(find_join_problems(cfg[f'{split}_dataloader'].dataset, f'{split}_dataloader.dataset'))
        samples = []
        datasets = datasets_of(cfg[f'{split}_dataloader'].dataset)
        for dataset in datasets:
            dataset_samples, classes, problems, warnings = list_samples(dataset)
            report.add_classes(classes)
            report.problems.extend(problems)
            report.warnings.extend(warnings)
            samples.extend(dataset_samples)

        # List the images of the other split, which may repeat some.
        other_split = 'val' if split == 'train' else 'train'
        other_images = []
        if cfg.get(f'{other_split}_dataloader'):
            for dataset in datasets_of(cfg[f'{other_split}_dataloader'].dataset):
                try:
                    dataset_samples, _, _, _ = list_samples(dataset)
                except FileNotFoundError as error:
                    report.warnings.append(f'{error}; no check for images that are in both {split} and {other_split}')
                    continue
                other_images.extend(dict(sample, seg_map_path=None) for sample in dataset_samples)

        # Read the files.
        _inspect_all(samples, num_workers, report.add_sample)
        _inspect_all(other_images, num_workers, report.check_overlap)
        if any(dataset.type == 'COCOStuffDataset' for dataset in datasets):
            report.problems[:0] = find_numbering_problems(report._images_by_value, report.num_images)
        return report

    def add_classes(self, classes: Iterable[str]) -> None:
        """Add the classes of a dataset; joined datasets must have the same ones."""
        classes = list(check_class_names(classes, 'classes'))
        self.classes = self.classes or classes
        leaked = [name for name in classes if name in self.unseen] if self.training else []
        if leaked:
            self.problems.append(f'{len(leaked)} unseen classes reach the loss, {leaked[0]!r} first: remove them')

    def add_sample(self, result: dict) -> None:
        """Add a result of ``inspect_sample``."""
        self.num_images += 1
        self.problems.extend(result['problems'])
        self._pixels.update(result['counts'])
        self._images.update(result['counts'].keys())
        self._images_by_value.update(result['values'])
        for key in result['doubts']:
            self._doubtful[key].append(result['path'])
        if not result['counts'] and not result['problems']:
            self.warnings.append(f'{result["path"]}: no labelled pixel')
        if result['digest'] is not None:
            duplicate = self._path_of_digest.setdefault(result['digest'], result['path'])
            if duplicate != result['path']:
                self.warnings.append(f'{result["path"]}: the same file as {duplicate}')

    def check_overlap(self, result: dict) -> None:
        """Compare an image of the other split (a result of ``inspect_sample``) with those that were added."""
        duplicate = self._path_of_digest.get(result['digest'])
        if duplicate is not None:
            self.problems.append(f'{result["path"]}: the same file as {duplicate}, in training and in evaluation')

    def class_rows(self) -> list[dict]:
        """Return for every class its ``name``, ``mark`` (``seen`` or ``unseen``), ``images`` and ``pixels``."""
        return [
            dict(
                name=name,
                mark='unseen' if name in self.unseen else 'seen',
                images=self._images[label],
                pixels=self._pixels[label],
            )
            for label, name in enumerate(self.classes)
        ]

    def all_warnings(self) -> list[str]:
        """Return the warnings about files, one for every kind of doubtful images, and one for every absent class."""
        warnings = list(self.warnings)
        for key, paths in self._doubtful.items():
            if paths:
                warnings.append(f'{paths[0]}: {DOUBTS[key].format(number=len(paths))}')
        absent = [row['name'] for row in self.class_rows() if not row['pixels']]
        return warnings + [f'class {name!r} has no pixel' for name in absent]

    def to_dict(self) -> dict:
        """Return the report for JSON.

        Returns:
            dict: ``classes`` (see ``class_rows``), number of ``images``, ``warnings``, ``wrong``, and ``doubtful``: for
            every kind of doubtful images all their files.
        """
        return dict(
            classes=self.class_rows(),
            images=self.num_images,
            warnings=self.all_warnings(),
            wrong=self.problems,
            doubtful={key: paths for key, paths in self._doubtful.items() if paths},
        )


def _inspect_all(samples: list[dict], num_workers: int, add: Callable[[dict], None]) -> None:
    """Inspect samples in several processes and hand the results to ``add`` in order, with a progress bar."""
    with Pool(num_workers) as pool:
        results = pool.imap(inspect_sample, samples, chunksize=16)
        for result in track_iter_progress((results, len(samples)), file=sys.stderr):
            add(result)
