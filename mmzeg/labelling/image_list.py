"""The images of a run, in an order that stays the same when the run is resumed."""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from mmzeg.labelling.storage import Storage
from mmzeg.utils.image_decoding import IMAGE_SUFFIXES

IMAGE_LIST = '.parts/images.json'
# A block is what one process labels at a time: so many batches of images that follow each other in the list.
BATCHES_PER_BLOCK = 4


def check_folders(images: Storage, out: Storage) -> None:
    """Raise ValueError if the run would read its own files."""
    if out.root == images.root or _is_inside(out, images):
        raise ValueError(f'{out}: it is in the folder of images, {images}: give a folder outside of it')
    for folder in ('annotations', 'scores'):
        if images.root == out.path(folder) or _is_inside(images, Storage(out.path(folder))):
            raise ValueError(f'{images}: these are label maps of {out}, not images: give the folder of images')


def list_images(images: Storage) -> list[str]:
    """Return the names of all images of a folder and its subfolders, sorted.

    Raises:
        FileNotFoundError: No such folder, or no image in it.
    """
    if images.is_local and not Path(images.root).is_dir():
        raise FileNotFoundError(f'{images}: no such folder of images')
    names = sorted(name for name in images.list_files() if _is_image(name))
    if not names:
        raise FileNotFoundError(f'{images}: no image in this folder or below it')
    return names


def merge_image_lists(earlier: Sequence[str], listed: Sequence[str]) -> list[str]:
    """Return the images of an earlier run in their order, then new ones, so that blocks stay the same.

    An image that vanished stays in the list, and its row says so, unless one of the same stem replaces it.
    """
    remaining = set(listed)
    replaced = {label_name(name) for name in listed}
    kept = [name for name in earlier if name in remaining or label_name(name) not in replaced]
    known = set(kept)
    return kept + [name for name in listed if name not in known]


def check_stems(images: Storage, names: Sequence[str]) -> None:
    """Raise ValueError if two images of one folder have the same stem, and so the same label map."""
    image_of_label: dict[str, str] = {}
    for name in names:
        other = image_of_label.setdefault(label_name(name), name)
        if other != name:
            raise ValueError(
                f'{images.path(name)}: its label map would replace that of {other}: rename one of the images'
            )


def read_image_list(out: Storage) -> list[str] | None:
    """Return the images of an interrupted run; None if there was none, or the list is damaged."""
    if not out.exists(IMAGE_LIST):
        return None
    try:
        names = json.loads(out.read(IMAGE_LIST))
    except ValueError:
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def write_image_list(out: Storage, names: Sequence[str]) -> None:
    """Write the images of a run, for the case that it is interrupted."""
    out.write(IMAGE_LIST, json.dumps(names).encode())


def pending_blocks(names: Sequence[str], done: Collection[str], batch_size: int) -> list[list[tuple[str, bool]]]:
    """Divide images into blocks, and return the blocks in which an image is left to label.

    A block's images are grouped into batches, in which sums may be rounded by the size of the batch. Blocks depend
    only on the list: a resumed run, or one of another number of processes, has the same batches.

    Args:
        names (Sequence[str]): All images.
        done (Collection[str]): Those with a label map and a row.
        batch_size (int): Images that go through the network together.

    Returns:
        list[list[tuple[str, bool]]]: Blocks of images, each with whether it is done.
    """
    size = 1 if batch_size == 1 else BATCHES_PER_BLOCK * batch_size
    blocks = []
    for first in range(0, len(names), size):
        block = [(name, name in done) for name in names[first : first + size]]
        if not all(is_done for _, is_done in block):
            blocks.append(block)
    return blocks


def label_name(name: str) -> str:
    """Return the name of an image's label map below the folder of label maps: ``SUB/a.png`` for ``SUB/a.jpg``."""
    return PurePosixPath(name).with_suffix('.png').as_posix()


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # Hidden files, such as macOS's ._a.jpg, are no images.
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith('.') for part in path.parts)


def _is_inside(inner: Storage, outer: Storage) -> bool:
    if inner.is_local != outer.is_local:
        return False
    if inner.is_local:
        return Path(os.path.realpath(inner.root)).is_relative_to(os.path.realpath(outer.root))
    return inner.root.startswith(f'{outer.root}/')
