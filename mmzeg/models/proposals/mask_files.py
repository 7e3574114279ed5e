"""Read the masks of one image from files: JSON with COCO RLE, a PNG of mask numbers, or a folder of binary PNGs."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmzeg.datasets.transforms.load_labels import read_label_map
from mmzeg.models.proposals.rle import decode_rle

# Pixels of 8-bit PNGs have no ignored value here.
_NO_IGNORE_INDEX = 255
SCORE_KEYS = ('predicted_iou', 'score')


def find_mask_file(folder: Path, name: str) -> Path:
    """Return the file or the folder of an image's masks: ``NAME.json``, ``NAME.png`` or ``NAME/``.

    Args:
        folder (Path): Folder of the masks of all images.
        name (str): Name of the image, without suffix; may have subfolders.

    Raises:
        FileNotFoundError: There is none.
    """
    candidates = [folder / f'{name}.json', folder / f'{name}.png', folder / name]
    for path in candidates:
        if path.is_dir() if path == candidates[-1] else path.is_file():
            return path
    raise FileNotFoundError(
        f'{folder / name}: no masks of this image: write {candidates[0].name}, {candidates[1].name}, or a folder '
        f'{name} of PNGs'
    )


def read_masks(path: Path, image: str, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, float]]:
    """Read the masks of one image, one after another.

    Args:
        path (Path): From ``find_mask_file``. A JSON file holds a list of objects with ``segmentation``, a COCO RLE, or
            an object with this list under ``annotations`` (SA-1B) or ``segments`` (``tools/demo.py --segments``). In a
            PNG file each value but 0 is one mask. In a folder each PNG is one mask, of all pixels that are not 0; SAM's
            ``metadata.csv`` may hold their scores.
        image (str): Name of the image, for error messages.
        size (tuple[int, int]): Its height and width, which all masks must have.

    Yields:
        tuple[np.ndarray, float]: A mask (H, W) bool, and its score in 0..1: SAM's ``predicted_iou`` or ``score``, 1
        where there is none.

    Raises:
        ValueError: Corrupted, of another form, or of another size than the image; names the file and the mask.
    """
    if path.is_dir():
        yield from _read_folder(path, image, size)
    elif path.suffix == '.json':
        yield from _read_json(path, image, size)
    else:
        labels = _read_png(path, image, size)
        for value in np.unique(labels[labels > 0]):
            yield labels == value, 1.0


def _read_json(path: Path, image: str, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, float]]:
    # Find the list of masks.
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path}: corrupted JSON ({error}): write it again') from error
    if isinstance(content, dict):
        content = content.get('annotations', content.get('segments'))
    if not isinstance(content, list):
        raise ValueError(f'{path}: not a list of masks, each with a segmentation (COCO RLE), as SAM writes it')
    # Decode the masks.
    for index, entry in enumerate(content):
        segmentation = entry.get('segmentation') if isinstance(entry, dict) else None
        try:
            mask = decode_rle(segmentation)
        except ValueError as error:
            raise ValueError(f'{path}: mask {index}: {error}') from error
        _check_size(f'{path}: mask {index}', mask, image, size)
        yield mask, _score(entry, f'{path}: mask {index}')


def _read_folder(path: Path, image: str, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, float]]:
    scores = {}
    table = path / 'metadata.csv'
    if table.is_file():
        with table.open(newline='') as file:
            scores = {row.get('id'): _score(row, f'{table}: mask {row.get("id")}') for row in csv.DictReader(file)}
    for file in sorted(path.glob('*.png')):
        yield _read_png(file, image, size) > 0, scores.get(file.stem, 1.0)


def _read_png(path: Path, image: str, size: tuple[int, int]) -> np.ndarray:
    """Return the values (H, W) int64 of a PNG with one value per pixel."""
    labels = read_label_map(str(path), path.read_bytes(), _NO_IGNORE_INDEX)
    _check_size(str(path), labels, image, size)
    return labels


def _check_size(owner: str, mask: np.ndarray, image: str, size: tuple[int, int]) -> None:
    if mask.shape != tuple(size):
        raise ValueError(
            f'{owner} is {mask.shape[1]} x {mask.shape[0]} pixels but its image {image} is {size[1]} x {size[0]}: make '
            "masks of the image's size"
        )


def _score(entry: dict, owner: str) -> float:
    """Return the score of a mask, limited to 0..1: SAM's predicted IoU may lie above 1."""
    key = next((key for key in SCORE_KEYS if entry.get(key) is not None), None)
    if key is None:
        return 1.0
    try:
        score = float(entry[key])
    except (TypeError, ValueError):
        score = math.nan
    if math.isnan(score):
        raise ValueError(f'{owner}: {key} is {entry[key]!r}, not a number: correct it')
    return min(max(score, 0.0), 1.0)
