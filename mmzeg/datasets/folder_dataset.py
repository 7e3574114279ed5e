"""Images in one folder, label maps in another, and a list of classes with their label values."""

import logging
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path

import mmengine.fileio as fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from mmzeg.class_names import check_class_names
from mmzeg.datasets.named_errors import NamedErrors
from mmzeg.registry import DATASETS
from mmzeg.utils.image_decoding import IMAGE_SUFFIXES

Labels = Sequence[str] | Mapping[str, int] | Sequence[tuple[str, int]]


@DATASETS.register_module()
class FolderDataset(NamedErrors, BaseSegDataset):
    """A custom dataset: any dataset whose classes and label values a config lists.

    mmseg's ``BaseSegDataset`` fixes all classes of a dataset in its Python class; here they are a field, so that
    ``metainfo=dict(classes=SEEN)`` can leave out the unseen classes in training. The pipeline loads labels by
    ``mmzeg.LoadLabels``.

    Args:
        labels (list[str] | dict[str, int] | list[tuple[str, int]]): All classes of the label maps, in the order of
            their values 0, 1, ...; or class name -> value; or pairs (class name, value).
        void (list[int]): Values of no class, ignored like ``ignore_index``.
        ignore_index (int): Value of pixels without a class in the loaded label maps. Defaults to 255.
        metainfo (dict): ``classes``: the classes to use, in the order of the model's; all other classes are ignored.
            Defaults to all. ``unseen_classes``: the unseen classes among them.
        img_suffix (str | list[str]): Ending of image files, or several; ``.jpg`` matches ``.JPG``. Images in the folder
            that end otherwise are left out, with a warning. Defaults to ``.jpg``.
        kwargs: What mmseg's ``BaseSegDataset`` takes.

    Raises:
        FileNotFoundError: A folder of images or label maps, or the list of images, does not exist.
        ValueError: A class or a value is listed twice, a value is no integer or the ignored one, ``labels`` lacks a
            class of ``metainfo``, there are more classes than values below ``ignore_index``, ``reduce_zero_label`` is
            set, an image has no label map of its own, or there is no image.
    """

    def __init__(
        self,
        labels: Labels,
        void: Sequence[int] = (),
        ignore_index: int = 255,
        metainfo: dict | None = None,
        img_suffix: str | Sequence[str] = '.jpg',
        **kwargs,
    ) -> None:
        self._label_values = _parse_labels(labels)
        self._void = tuple(_check_label_value(value, 'void') for value in void)
        metainfo = dict(metainfo or {})
        metainfo.setdefault('classes', list(self._label_values))
        # The names as a vocabulary writes them. MMSeg reads ``classes`` from a file if it is text.
        for field in ('classes', 'unseen_classes'):
            if field in metainfo and not isinstance(metainfo[field], str):
                metainfo[field] = list(check_class_names(metainfo[field], f'metainfo.{field}'))
        if len(metainfo['classes']) > ignore_index:
            raise ValueError(
                f'{len(metainfo["classes"])} classes and ignore_index={ignore_index}: set a higher ignore_index for '
                'dataset, head and metric, seg_pad_val of the data preprocessor and pad_val of Pad, for example 65535'
            )
        _check_ignored_values(self._label_values, self._void, ignore_index)
        if kwargs.get('reduce_zero_label'):
            raise ValueError(
                'reduce_zero_label=True shifts every value of labels by one: remove it, and list 0 in void'
            )
        self.img_suffixes = _parse_suffixes(img_suffix)
        unknown = sorted(set(kwargs.get('data_prefix', {})) - {'img_path', 'seg_map_path'})
        if unknown:
            raise ValueError(f'data_prefix has no field {unknown[0]!r}: its fields are img_path and seg_map_path')
        super().__init__(metainfo=metainfo, ignore_index=ignore_index, img_suffix=self.img_suffixes[0], **kwargs)

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Return the new value of every value in the files: the index in ``new_classes``, or ``ignore_index``.

        Raises:
            ValueError: ``labels`` lacks a class of ``new_classes``.
        """
        unknown = [name for name in new_classes if name not in self._label_values]
        if unknown:
            raise ValueError(f'class {unknown[0]!r} of metainfo is not among labels: add it, with its value')
        indices = {name: index for index, name in enumerate(new_classes)}
        mapping = {value: indices.get(name, self.ignore_index) for name, value in self._label_values.items()}
        return mapping | dict.fromkeys(self._void, self.ignore_index)

    def load_data_list(self) -> list[dict]:
        """Return a sample (``img_path``, ``seg_map_path``, ``ignore_index``, ...) for every image.

        Raises:
            FileNotFoundError: A folder, or the list of images, does not exist.
            ValueError: There is no image, an image has no label map, or two images have the same.
        """
        # Check folders and the list of images.
        for field in ('img_path', 'seg_map_path'):
            folder = self.data_prefix.get(field)
            if folder and not Path(folder).is_dir():
                raise FileNotFoundError(f'{folder}: no such folder ({field} of data_prefix, below data_root)')
        if self.ann_file and not Path(self.ann_file).is_file():
            raise FileNotFoundError(f'{self.ann_file}: no such list of images (ann_file, below data_root)')

        # List the images and check that each has a label map of its own.
        samples, unmatched = self.list_samples()
        if not samples:
            raise ValueError(no_image_message(self, unmatched))
        if unmatched:
            print_log(unmatched_message(self, unmatched), 'current', logging.WARNING)
        image_of_label_map: dict[str, str] = {}
        for sample in samples:
            image, label_map = sample['img_path'], sample.get('seg_map_path')
            if label_map is None:
                continue
            if not Path(label_map).is_file():
                raise ValueError(f'{image}: no label map; {label_map} does not exist')
            other = image_of_label_map.setdefault(label_map, image)
            if other != image or image == label_map:
                raise ValueError(
                    f'{image}: its label map {label_map} is also that of {other}, or is the image itself: '
                    'correct img_suffix and seg_map_suffix, or rename one'
                )
        return samples

    def list_samples(self) -> tuple[list[dict], list[str]]:
        """List the images, without a look at label maps.

        Returns:
            tuple: Samples in the order of their paths (of ``ann_file`` if there is one), and the paths of images in the
            folder that do not end with ``img_suffix``, which are no samples.
        """
        folder = self.data_prefix['img_path']
        if self.ann_file:
            # The list may start with a byte order mark, as Windows writes it, and have blank lines.
            lines = fileio.list_from_file(self.ann_file, encoding='utf-8-sig', backend_args=self.backend_args)
            stems = [line.strip() for line in lines if line.strip()]
            return [self._sample(self._image_of(stem), stem) for stem in stems], []

        # Files whose name starts with a dot, such as macOS's ._a.jpg, are not listed.
        label_folder = self.data_prefix.get('seg_map_path') or folder
        samples, unmatched = [], []
        for name in fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=self.backend_args):
            suffix = next((suffix for suffix in self.img_suffixes if name.lower().endswith(suffix.lower())), None)
            if suffix is not None:
                samples.append(self._sample(name, name[: len(name) - len(suffix)]))
            elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
                path = os.path.join(folder, name)
                is_label_map = name.endswith(self.seg_map_suffix) and Path(path).is_relative_to(label_folder)
                if not is_label_map:
                    unmatched.append(path)
        return sorted(samples, key=lambda sample: sample['img_path']), sorted(unmatched)

    def _image_of(self, stem: str) -> str:
        """Return the name of a listed image: with the first suffix for which there is a file, else the first suffix."""
        names = [stem + variant for suffix in self.img_suffixes for variant in (suffix, suffix.lower(), suffix.upper())]
        existing = (name for name in names if os.path.isfile(os.path.join(self.data_prefix['img_path'], name)))
        return next(existing, names[0])

    def _sample(self, image: str, stem: str) -> dict:
        sample = dict(
            img_path=os.path.join(self.data_prefix['img_path'], image),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            ignore_index=self.ignore_index,
            seg_fields=[],
        )
        if self.data_prefix.get('seg_map_path') is not None:
            sample['seg_map_path'] = os.path.join(self.data_prefix['seg_map_path'], stem + self.seg_map_suffix)
        return sample


def no_image_message(dataset: FolderDataset, unmatched: Sequence[str]) -> str:
    """Return the error of a dataset without images."""
    suffixes = ' or '.join(map(repr, dataset.img_suffixes))
    others = f'; {len(unmatched)} images end otherwise, such as {unmatched[0]}: set img_suffix' if unmatched else ''
    return f'{dataset.data_prefix["img_path"]}: no image here ends with {suffixes}{others}'


def unmatched_message(dataset: FolderDataset, unmatched: Sequence[str]) -> str:
    """Return the warning about images that are left out because of their suffix."""
    suffixes = ' or '.join(map(repr, dataset.img_suffixes))
    return (
        f'{unmatched[0]}: left out, the first of {len(unmatched)} images that do not end with {suffixes}: list all '
        'suffixes in img_suffix'
    )


def _parse_labels(labels: Labels) -> dict[str, int]:
    """Return class name -> value for any form of ``labels``."""
    if isinstance(labels, str) or not isinstance(labels, (Mapping, Sequence)):
        raise ValueError(f'labels={labels!r}: give a list of class names, or a dict of class name to value')
    if isinstance(labels, Mapping):
        pairs = list(labels.items())
    elif all(isinstance(name, str) for name in labels):
        pairs = [(name, value) for value, name in enumerate(labels)]
    else:
        pairs = list(labels)
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f'labels has {pair!r} among pairs: give all entries as (class name, value)')
        if isinstance(pair[1], str) and not isinstance(pair[0], str):
            raise ValueError(
                f'labels: {pair[0]!r} stands before {pair[1]!r}: give the class name first, then its value'
            )
    names = check_class_names([name for name, _ in pairs], 'labels', allow_empty=False)
    values = [value for _, value in pairs]
    name_of: dict[int, str] = {}
    for name, value in zip(names, values, strict=True):
        _check_label_value(value, f'class {name!r} in labels')
        if value in name_of:
            raise ValueError(f'classes {name_of[value]!r} and {name!r} both have the value {value} in labels')
        name_of[value] = name
    return dict(zip(names, values, strict=True))


def _parse_suffixes(img_suffix: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several suffixes as a tuple; raise ValueError for anything else."""
    suffixes = (img_suffix,) if isinstance(img_suffix, str) else img_suffix
    is_list = isinstance(suffixes, Sequence) and len(suffixes) > 0
    if not is_list or not all(isinstance(suffix, str) and suffix for suffix in suffixes):
        raise ValueError(f"img_suffix={img_suffix!r}: give a suffix such as '.jpg', or a list such as ['.jpg', '.png']")
    return tuple(suffixes)


def _check_label_value(value: object, owner: str) -> int:
    """Return a value of label maps; raise ValueError, naming its ``owner``, if it is no integer from 0 to 65535."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value <= 65535:
        raise ValueError(f'{owner}: the value {value!r} is no integer from 0 to 65535: correct it')
    return int(value)


def _check_ignored_values(label_values: dict[str, int], void: tuple[int, ...], ignore_index: int) -> None:
    """Raise ValueError if a class has the value of pixels without a class."""
    for name, value in label_values.items():
        if value in void:
            raise ValueError(
                f'value {value} is both a class and void: remove {name!r} from labels, or {value} from void'
            )
        if value == ignore_index:
            raise ValueError(
                f'class {name!r} has the value {value} in labels, which is also ignore_index: remove the class if it '
                'stands for unlabelled pixels, else set another ignore_index for dataset, head and metric, seg_pad_val '
                'of the data preprocessor and pad_val of Pad, for example 65535 with label maps of 16 bits'
            )
