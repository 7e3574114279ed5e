"""Configs that train a fast model of mmseg on the label maps of a labelled folder: the student of ZegFormer."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from statistics import median

from mmengine.logging import print_log

from mmzeg.labelling.student_configs import (
    DATASET,
    FAST_SCNN,
    RUNTIME,
    SEGFORMER,
    TEST_LABELS_8_BITS,
    TEST_LABELS_16_BITS,
)
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.palette import palette

# Folder of the lists of images.
SPLITS = 'splits'
BATCH_SIZE = 8
# Limits of the shorter side that images are resized to, in pixels, and what it is a multiple of.
SIDE_LIMITS = (64, 512)
SIDE_STEP = 32
# Passes over the training images, and the limits of the iterations that they take.
EPOCHS = 20
ITERS_LIMITS = (4000, 160000)
# One image of so many goes to the validation split.
VAL_STEP = 10


def write_student_configs(out: Path, rows: Sequence[dict]) -> None:
    """Write the splits and the configs of students for a labelled folder.

    Writes ``splits/train.txt``, ``splits/val.txt``, ``dataset.py``, ``runtime.py``, ``train_segformer.py`` and
    ``train_fast_scnn.py``. Files that exist are replaced.

    Args:
        out (Path): The labelled folder, with ``annotations`` and ``classes.json``.
        rows (Sequence[dict]): Its manifest, a row per image: ``file``, ``width``, ``height``, ``pixels`` (class name ->
            number) and ``error``. Images with an error, or without a labelled pixel, are left out.

    Raises:
        FileNotFoundError: ``out`` has no ``classes.json``.
        ValueError: A split would be empty, two images share a label map, or a class has the ignored value.
    """
    description = json.loads((out / 'classes.json').read_text())
    classes = description['classes']
    ignore_index = description['ignore_index']
    if len(classes) > ignore_index:
        raise ValueError(
            f'{out / "classes.json"}: {len(classes)} classes and ignore_index={ignore_index}, which is the value of '
            'a class: label the images again with label maps of 16 bits'
        )

    # Splits: all other fields follow from the images that are in one.
    usable = [row for row in rows if _is_usable(row)]
    splits = _split_stems(out, [row['file'] for row in usable])
    dataset = _format_dataset(description, usable, num_train=len(splits['train']))

    # Write the files; the configs last, so that they never refer to a missing split.
    (out / SPLITS).mkdir(exist_ok=True)
    for name, stems in splits.items():
        _write_text(out / SPLITS / f'{name}.txt', ''.join(f'{stem}\n' for stem in stems))
    configs = {
        'dataset.py': dataset,
        'runtime.py': RUNTIME,
        'train_segformer.py': SEGFORMER,
        'train_fast_scnn.py': FAST_SCNN,
    }
    for name, text in configs.items():
        _write_text(out / name, text)


def is_validation_image(file: str) -> bool:
    """Return whether an image is in the validation split: by a hash of its name, so that no other image matters."""
    return int.from_bytes(hashlib.sha256(file.encode(errors='surrogateescape')).digest()[:8], 'big') % VAL_STEP == 0


def student_side(sizes: Iterable[tuple[int, int]]) -> int:
    """Return the length in pixels that the shorter side of images is resized to.

    The median of the shorter sides, to the nearest multiple of ``SIDE_STEP``, within ``SIDE_LIMITS``.

    Args:
        sizes (Iterable[tuple[int, int]]): Width and height of every image.
    """
    shorter = median(min(size) for size in sizes)
    low, high = SIDE_LIMITS
    return min(high, max(low, SIDE_STEP * round(shorter / SIDE_STEP)))


def _is_usable(row: dict) -> bool:
    """Return whether a row of the manifest is an image that was labelled, and that a list of images can name."""
    if row['error'] is not None or not sum(row['pixels'].values()):
        return False
    # FolderDataset reads a line per image, without the spaces around it.
    stem = _stem(row['file'])
    is_utf8 = stem.encode(errors='replace').decode() == stem
    if not is_utf8 or stem != stem.strip() or len(stem.splitlines()) != 1:
        print_log(
            f'{row["file"]!r}: left out of the splits: a list of images cannot hold this name; rename the file',
            'current',
            logging.WARNING,
        )
        return False
    return True


def _split_stems(out: Path, files: Iterable[str]) -> dict[str, list[str]]:
    """Return the stems of the images of ``train`` and ``val``, sorted; ValueError if a split is empty."""
    splits = dict(train=[], val=[])
    file_of_stem: dict[str, str] = {}
    for file in sorted(files):
        stem = _stem(file)
        other = file_of_stem.setdefault(stem, file)
        if other != file:
            raise ValueError(f'{out}: {other} and {file} have the same label map {stem}.png: rename one of them')
        splits['val' if is_validation_image(file) else 'train'].append(stem)
    for name, stems in splits.items():
        if not stems:
            raise ValueError(
                f'{out}: none of the {len(file_of_stem)} labelled images is in the {name} split, so there is no config '
                f'to train on them; one of {VAL_STEP} images goes to val, by its name: label more images'
            )
    return splits


def _format_dataset(description: dict, rows: Sequence[dict], num_train: int) -> str:
    """Return the text of ``dataset.py``.

    Args:
        description (dict): Content of ``classes.json``.
        rows (Sequence[dict]): Rows of the images in the splits.
        num_train (int): Number of training images.
    """
    classes = description['classes']
    ignore_index = description['ignore_index']
    colours = [
        f'    ({name!r}, {colour}),' for name, colour in zip(classes, palette(len(classes)).tolist(), strict=True)
    ]
    low, high = ITERS_LIMITS
    return DATASET.format(
        images=description['images'],
        colours='\n'.join(colours),
        ignore_index=ignore_index,
        num_images=len(rows),
        width=round(median(row['width'] for row in rows)),
        height=round(median(row['height'] for row in rows)),
        side=student_side((row['width'], row['height']) for row in rows),
        epochs=EPOCHS,
        min_iters=low,
        max_iters_limit=high,
        batch_size=BATCH_SIZE,
        max_iters=min(high, max(low, EPOCHS * num_train // BATCH_SIZE)),
        test_labels=TEST_LABELS_8_BITS if ignore_index < 256 else TEST_LABELS_16_BITS,
        img_suffix=sorted({PurePosixPath(row['file']).suffix for row in rows}),
    )


def _stem(file: str) -> str:
    """Return the path of an image without its suffix."""
    return file[: len(file) - len(PurePosixPath(file).suffix)]


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda partial: partial.write_text(text, encoding='utf-8'))
