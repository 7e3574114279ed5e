"""Images in one folder, label maps in another, and a list of classes with their label values."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path

from mmseg.datasets import BaseSegDataset

from mmzeg.class_names import check_class_names
from mmzeg.registry import DATASETS

Labels = Sequence[str] | Mapping[str, int] | Sequence[tuple[str, int]]


@DATASETS.register_module()
class FolderDataset(BaseSegDataset):
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
        kwargs: What mmseg's ``BaseSegDataset`` takes.

    Raises:
        FileNotFoundError: A folder of images or label maps, or the list of images, does not exist.
        ValueError: A class or a value is listed twice, a value is no integer or the ignored one, ``labels`` lacks a
            class of ``metainfo``, there are more classes than values below ``ignore_index``, ``reduce_zero_label`` is
            set, an image has no label map, or there is no image.
    """

    def __init__(
        self,
        labels: Labels,
        void: Sequence[int] = (),
        ignore_index: int = 255,
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        self._label_values = _parse_labels(labels)
        self._void = tuple(_check_label_value(value, 'void') for value in void)
        metainfo = dict(metainfo or {})
        metainfo.setdefault('classes', list(self._label_values))
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
        super().__init__(metainfo=metainfo, ignore_index=ignore_index, **kwargs)

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
            ValueError: There is no image, or an image has no label map.
        """
        # Check folders and the list of images.
        for field in ('img_path', 'seg_map_path'):
            folder = self.data_prefix.get(field)
            if folder and not Path(folder).is_dir():
                raise FileNotFoundError(f'{folder}: no such folder ({field} of data_prefix, below data_root)')
        if self.ann_file and not Path(self.ann_file).is_file():
            raise FileNotFoundError(f'{self.ann_file}: no such list of images (ann_file, below data_root)')

        # List the images and check that each has a label map.
        samples = super().load_data_list()
        if not samples:
            raise ValueError(f'{self.data_prefix["img_path"]}: no image here ends with {self.img_suffix!r}')
        for sample in samples:
            if 'seg_map_path' in sample and not Path(sample['seg_map_path']).is_file():
                raise ValueError(f'{sample["img_path"]}: no label map; {sample["seg_map_path"]} does not exist')
            sample['ignore_index'] = self.ignore_index
        return samples


def _parse_labels(labels: Labels) -> dict[str, int]:
    """Return class name -> value for any form of ``labels``."""
    pairs = list(labels.items() if isinstance(labels, Mapping) else labels)
    if all(isinstance(name, str) for name in pairs):
        pairs = [(name, value) for value, name in enumerate(pairs)]
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f'labels has {pair!r} among pairs: give all entries as (class name, value)')
    check_class_names([name for name, _ in pairs], 'labels', allow_empty=False)
    name_of: dict[int, str] = {}
    for name, value in pairs:
        _check_label_value(value, f'class {name!r} in labels')
        if value in name_of:
            raise ValueError(f'classes {name_of[value]!r} and {name!r} both have the value {value} in labels')
        name_of[value] = name
    return dict(pairs)


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
