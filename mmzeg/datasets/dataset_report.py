"""What the files of a dataset hold, and what is wrong with them; bounded memory, whatever their number."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import ConfigDict
from mmseg.datasets import BaseSegDataset
from PIL import ExifTags, Image

from mmzeg.datasets.folder_dataset import FolderDataset
from mmzeg.datasets.transforms.load_labels import read_label_map, value_table
from mmzeg.registry import DATASETS


def list_samples(config: ConfigDict) -> tuple[list[dict], list[str], list[str]]:
    """Files of a dataset as its config lists them, its classes, and what is wrong with the list.

    Raises:
        FileNotFoundError: A folder is not there, or the dataset is not kept in folders.
    """
    dataset = DATASETS.build(dict(config, pipeline=[], lazy_init=True))
    for part in ('img_path', 'seg_map_path'):
        folder = dataset.data_prefix.get(part)
        if not folder or not Path(folder).is_dir():
            raise FileNotFoundError(f'{config.type}: {folder!r} is no folder ({part} of data_prefix): nothing to read')
    # FolderDataset stops at the first image without a label map; here all are listed.
    owner = BaseSegDataset if isinstance(dataset, FolderDataset) else type(dataset)
    samples = owner.load_data_list(dataset)
    faults = []
    if not samples:
        faults.append(f'{dataset.data_prefix["img_path"]}: no image ends with {dataset.img_suffix!r}')
    for sample in samples:
        sample['ignore_index'] = dataset.ignore_index
        sample['num_classes'] = len(dataset.metainfo['classes'])
    expected = {Path(sample['seg_map_path']).resolve() for sample in samples}
    # Where a list says which images are used, other label maps may lie beside.
    if not dataset.ann_file:
        found = Path(dataset.data_prefix['seg_map_path']).rglob(f'*{dataset.seg_map_suffix}')
        faults.extend(
            f'{path}: a label map without an image' for path in sorted(found) if path.resolve() not in expected
        )
    return samples, list(dataset.metainfo['classes']), faults


def inspect(sample: dict) -> dict:
    """Read one image and its label map (if it has one): ``faults``, ``digest`` of the image, ``counts`` of classes.

    ``values``: those in the file, before they become classes.
    """
    faults, counts, values, size, digest = [], {}, [], None, None
    image = Path(sample['img_path'])
    try:
        content = image.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        with Image.open(io.BytesIO(content)) as picture:
            # As training reads it, turned as its camera says; orientations 5 to 8 lie on their side.
            size = picture.size[::-1] if picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5 else picture.size
            if sample['seg_map_path'] is not None:
                picture.draft('L', (1, 1))  # a JPEG is read to its end, but not decoded at its size
                picture.load()
    except FileNotFoundError:
        faults.append(f'{image}: not there')
    except (OSError, SyntaxError, ValueError) as error:
        faults.append(f'{image}: not a whole image ({error})')
    if sample['seg_map_path'] is not None:
        try:
            counts, values, wrong = _count(sample, size)
            faults.extend(wrong)
        except FileNotFoundError:
            faults.append(f'{image}: without a label map: {sample["seg_map_path"]} is not there')
        except ValueError as error:
            faults.append(str(error))
    return dict(path=str(image), digest=digest, counts=counts, values=values, faults=faults)


def _count(sample: dict, size: tuple[int, int] | None) -> tuple[dict[int, int], list[int], list[str]]:
    path = sample['seg_map_path']
    labels, faults = read_label_map(path, Path(path).read_bytes(), sample['ignore_index']), []
    if size is not None and labels.shape[::-1] != size:
        faults.append(f'{path}: {labels.shape[1]} x {labels.shape[0]} pixels, but its image is {size[0]} x {size[1]}')
    ignored, number = sample['ignore_index'], sample['num_classes']
    table = value_table(sample['label_map'], sample['reduce_zero_label'], ignored)
    pixels = np.bincount(labels.ravel())
    values, counts = np.flatnonzero(pixels).tolist(), {}
    strangers = []
    for value in values:
        new = value if table is None else int(table[value]) if value < len(table) else -1
        if new != ignored and not 0 <= new < number:
            strangers.append(value)
        else:
            counts[new] = counts.get(new, 0) + int(pixels[value])
    if strangers:
        others = f' (and {len(strangers) - 1} others)' if len(strangers) > 1 else ''
        faults.append(f'{path}: value {strangers[0]}{others} is none of the {number} classes, nor ignored')
    counts.pop(ignored, None)
    return counts, values, faults


class DatasetReport:
    """Sums over files.

    Args:
        unseen (list[str]): Classes that no training label may have.
        training (bool): Whether the files are for training.
    """

    def __init__(self, unseen: Sequence[str], training: bool) -> None:
        self.unseen, self.training = set(unseen), training
        self.classes: list[str] = []
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.images = 0
        self._pixels: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self.images_of: Counter[int] = Counter()  # by the values in the files
        self._digests: dict[bytes, str] = {}

    def expect(self, classes: Iterable[str]) -> None:
        """Note a dataset's classes; several must have the same."""
        classes = list(classes)
        if self.classes and classes != self.classes:
            self.faults.append('datasets that are joined have different lists of classes: give all the same')
        self.classes = self.classes or classes
        leaked = [name for name in classes if name in self.unseen] if self.training else []
        if leaked:
            self.faults.append(f'{len(leaked)} unseen classes reach the loss, {leaked[0]!r} first: leave them out')

    def add(self, result: dict) -> None:
        """Add what ``inspect`` found."""
        self.images += 1
        self.faults.extend(result['faults'])
        for label, pixels in result['counts'].items():
            self._pixels[label] = self._pixels.get(label, 0) + pixels
            self._images[label] = self._images.get(label, 0) + 1
        self.images_of.update(result['values'])
        if not result['counts'] and not result['faults']:
            self.warnings.append(f'{result["path"]}: not one labelled pixel')
        if result['digest'] is not None:
            same = self._digests.setdefault(result['digest'], result['path'])
            if same != result['path']:
                self.warnings.append(f'{result["path"]}: the same file as {same}')

    def add_other(self, result: dict) -> None:
        """Compare an image of the other split with those that were added."""
        same = self._digests.get(result['digest'])
        if same is not None:
            self.faults.append(f'{result["path"]}: the same file as {same}, in training and in evaluation')

    def rows(self) -> list[dict]:
        """For every class its name, ``seen`` or ``unseen``, and in how many images and pixels it is."""
        return [
            dict(
                name=name,
                mark='unseen' if name in self.unseen else 'seen',
                images=self._images.get(label, 0),
                pixels=self._pixels.get(label, 0),
            )
            for label, name in enumerate(self.classes)
        ]

    def all_warnings(self) -> list[str]:
        """Those of files, and classes that no file has."""
        absent = [row['name'] for row in self.rows() if not row['pixels']]
        return self.warnings + [f'class {name!r} has not one pixel' for name in absent]
