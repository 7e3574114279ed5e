"""Names of output files: the path of an image below its folder, so that subfolders are kept."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.config import ConfigDict
from torch.utils.data import Dataset


def relative_name(path: str | Path, folders: Sequence[str | Path]) -> str:
    """Return the name of an image below its folder: "seq0/0000.jpg" for "images/seq0/0000.jpg" in "images".

    Args:
        path (str | Path): The image.
        folders (Sequence[str | Path]): Folders of images. With several, the name begins below the folder that holds all
            of them. An image outside of it has its file name.
    """
    path = Path(os.path.abspath(path))
    absolute = [os.path.abspath(folder) for folder in folders]
    root = os.path.commonpath(absolute) if absolute else path.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def configured_image_folders(configs: Iterable[ConfigDict]) -> list[str]:
    """Return the folders of images that the configs of datasets name."""
    fields = [(config.get('data_root') or '', config.get('data_prefix') or {}) for config in configs]
    folders = [os.path.join(root, prefix.get('img_path') or '') for root, prefix in fields]
    return [folder for folder in folders if folder]


def image_folders(dataset: Dataset) -> list[str]:
    """Return the folders of images of a dataset, or of the datasets that it joins or repeats."""
    members = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if members[0] is not None:
        return [folder for member in members for folder in image_folders(member)]
    folder = (getattr(dataset, 'data_prefix', None) or {}).get('img_path')
    return [folder] if folder else []
