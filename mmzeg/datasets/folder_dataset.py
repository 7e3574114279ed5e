"""Images in a folder, label maps in another, and a list that says which value is which class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg.datasets import BaseSegDataset

from mmzeg.registry import DATASETS
from mmzeg.vocabulary import Vocabulary


@DATASETS.register_module()
class FolderDataset(BaseSegDataset):
    """A dataset of one's own, or any whose label values a config lists.

    mmseg's ``BaseSegDataset`` fixes all classes of a dataset in its Python class; here they are a field, so that
    ``metainfo=dict(classes=SEEN)`` can leave out the unseen in training. The pipeline loads labels by
    ``mmzeg.LoadLabels``.

    Args:
        labels (list[str] | dict[str, int] | list[tuple[str, int]]): All classes that label maps hold, in the order of
            their values 0, 1, ...; or name -> value; or pairs of them.
        void (list[int]): Values of no class, ignored as ``ignore_index`` is.
        ignore_index (int): Value of pixels without a class in what the pipeline hands on. Defaults to 255.
        metainfo (dict): ``classes``: those to be used, in the order of the model's; the others are ignored. Defaults to
            all. ``unseen_classes``: the unseen among them.
        kwargs: What mmseg's ``BaseSegDataset`` takes.

    Raises:
        FileNotFoundError: No such folder of images or label maps, or list of images.
        ValueError: A class or a value twice, a class of ``metainfo`` that ``labels`` does not have, more classes than
            ``ignore_index`` leaves values for, an image without a label map, or no image.
    """

    def __init__(
        self,
        labels: Sequence[str] | Mapping[str, int] | Sequence[tuple[str, int]],
        void: Sequence[int] = (),
        ignore_index: int = 255,
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        self._labels, self._void = _values(labels), tuple(void)
        taken = set(self._labels.values()) & set(self._void)
        if taken:
            raise ValueError(f'value {min(taken)} is both a class and void: remove it from one')
        metainfo = dict(metainfo or {})
        metainfo.setdefault('classes', list(self._labels))
        if len(metainfo['classes']) > ignore_index:
            raise ValueError(
                f'{len(metainfo["classes"])} classes and ignore_index={ignore_index}: give dataset, head and metric an '
                'ignore_index above, 65535 for instance'
            )
        super().__init__(metainfo=metainfo, ignore_index=ignore_index, **kwargs)

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """New value of every value in the files: the position in ``new_classes``, or ``ignore_index``."""
        position = {name: index for index, name in enumerate(new_classes)}
        strangers = [name for name in new_classes if name not in self._labels]
        if strangers:
            raise ValueError(f'class {strangers[0]!r} of metainfo is not among labels: add it, with its value')
        values = {value: position.get(name, self.ignore_index) for name, value in self._labels.items()}
        return values | dict.fromkeys(self._void, self.ignore_index)

    def load_data_list(self) -> list[dict]:
        """Every image with its label map, checked to be there."""
        for part in ('img_path', 'seg_map_path'):
            folder = self.data_prefix.get(part)
            if folder and not Path(folder).is_dir():
                raise FileNotFoundError(f'{folder}: no such folder ({part} of data_prefix, below data_root)')
        if self.ann_file and not Path(self.ann_file).is_file():
            raise FileNotFoundError(f'{self.ann_file}: no such list of images (ann_file, below data_root)')
        data = super().load_data_list()
        if not data:
            raise ValueError(f'{self.data_prefix["img_path"]}: no image ends with {self.img_suffix!r} there')
        for sample in data:
            if 'seg_map_path' in sample and not Path(sample['seg_map_path']).is_file():
                raise ValueError(f'{sample["img_path"]} has no label map: {sample["seg_map_path"]} is not there')
            sample['ignore_index'] = self.ignore_index
        return data


def _values(labels: Sequence[str] | Mapping[str, int] | Sequence[tuple[str, int]]) -> dict[str, int]:
    pairs = list(labels.items() if isinstance(labels, Mapping) else labels)
    if all(isinstance(name, str) for name in pairs):
        pairs = [(name, value) for value, name in enumerate(pairs)]
    Vocabulary([name for name, _ in pairs])
    names: dict[int, str] = {}
    for name, value in pairs:
        if value in names:
            raise ValueError(f'classes {names[value]!r} and {name!r} both have the value {value} in labels')
        names[value] = name
    return dict(pairs)
