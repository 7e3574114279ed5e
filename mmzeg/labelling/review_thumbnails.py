"""Thumbnails of the review sheet: an image in which all but one class is grey."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from mmzeg.apis.drawing import encode_image_file
from mmzeg.datasets.transforms.load_labels import read_label_map
from mmzeg.labelling.image_list import label_name
from mmzeg.labelling.label_writer import LABEL_MAPS
from mmzeg.labelling.storage import Storage
from mmzeg.utils.image_decoding import decode_image
from mmzeg.utils.palette import palette

# All thumbnails together; base64 in the sheet makes 4/3 of it.
MAX_TOTAL_BYTES = 3 * 2**20
# Longest side in pixels and quality of the JPEG: the first that a thumbnail's part of the bytes allows, or the last.
FORMATS = ((160, 80), (160, 60), (112, 60), (80, 50), (64, 40))
# Grey values of the other classes: 0 and 255 become these.
DIMMED = (35, 150)


def draw_thumbnails(
    out: Storage,
    images: Storage,
    rows: Sequence[dict],
    labels_of_file: Mapping[str, Sequence[int]],
    num_classes: int,
    ignore_index: int,
) -> tuple[dict[tuple[str, int], bytes], dict[str, str]]:
    """Draw classes of labelled images.

    Args:
        out (Storage): The folder that ``tools/label.py`` wrote.
        images (Storage): The folder of images.
        rows (Sequence[dict]): Rows of the manifest for the images to draw.
        labels_of_file (Mapping[str, Sequence[int]]): By file, the classes to draw, each in a thumbnail of its own.
        num_classes (int): Length of the class list, for the colours.
        ignore_index (int): Value of pixels without a class.

    Returns:
        tuple: JPEG files by file and class; and, by file, why an image could not be drawn.
    """
    colours = palette(num_classes)
    num_thumbnails = sum(len(labels_of_file[row['file']]) for row in rows)
    max_bytes = MAX_TOTAL_BYTES // max(1, num_thumbnails)

    def draw(row: dict) -> list[bytes] | str:
        labels = labels_of_file[row['file']]
        try:
            image, label_map = _read_pair(out, images, row, ignore_index)
        except Exception as error:  # storage backends raise errors of any kind
            return _reason(error)
        drawings = (draw_class(image, label_map == label, colours[label]) for label in labels)
        return [_encode(drawing, max_bytes) for drawing in drawings]

    # Threads, as most of the time goes into waiting for files and into Pillow, which runs outside of Python's lock.
    thumbnails = {}
    problems = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for row, result in zip(rows, pool.map(draw, rows), strict=True):
            file = row['file']
            if isinstance(result, str):
                problems[file] = result
            else:
                thumbnails |= {(file, label): jpeg for label, jpeg in zip(labels_of_file[file], result, strict=True)}
    return thumbnails, problems


def draw_class(image: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> Image.Image:
    """Draw the pixels of a class in their colours with an outline, and all others in dark grey.

    Args:
        image (np.ndarray): (H, W, 3) uint8 RGB.
        mask (np.ndarray): (H, W) bool.
        colour (np.ndarray): (3,) uint8 RGB of the outline.

    Returns:
        Image.Image: With a longest side of at most 160 pixels.
    """
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((FORMATS[0][0], FORMATS[0][0]))
    coverage = Image.fromarray(mask.astype(np.uint8) * 255).resize(thumbnail.size, Image.Resampling.BOX)
    coverage = np.asarray(coverage)
    # Parts that are thinner than a pixel of the thumbnail stay visible.
    small_mask = coverage >= max(1, min(128, coverage.max() // 2))
    pixels = np.asarray(thumbnail)
    grey = np.interp(np.asarray(thumbnail.convert('L')), (0, 255), DIMMED)[..., None]
    drawing = np.where(small_mask[..., None], pixels, grey).astype(np.uint8)
    # The outline is outside of the mask, so that it hides nothing of it.
    padded = np.pad(small_mask, 1)
    neighbours = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    drawing[neighbours & ~small_mask] = colour
    return Image.fromarray(drawing)


def _read_pair(out: Storage, images: Storage, row: dict, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image, (H, W, 3) uint8 RGB, and its label map (H, W) again.

    Raises:
        ValueError: The image is another one than when it was labelled, or the label map has another size.
    """
    file = row['file']
    content = images.read(file)
    if hashlib.sha1(content).hexdigest() != row['sha1']:
        raise ValueError('changed since it was labelled')
    image = decode_image(content, file)
    name = f'{LABEL_MAPS}/{label_name(file)}'
    label_map = read_label_map(out.path(name), out.read(name), ignore_index)
    if label_map.shape != image.shape[:2]:
        raise ValueError(f'{out.path(name)}: another size than its image')
    return image, label_map


def _encode(drawing: Image.Image, max_bytes: int) -> bytes:
    """Encode a thumbnail in the best of ``FORMATS`` that needs at most ``max_bytes``, else in the last of them."""
    for side, quality in FORMATS:
        drawing.thumbnail((side, side))
        jpeg = encode_image_file(drawing, 'JPEG', quality=quality, optimize=True)
        if len(jpeg) <= max_bytes:
            break
    return jpeg


def _reason(error: Exception) -> str:
    """Return an error in one line."""
    if isinstance(error, FileNotFoundError):
        return f'{error.filename}: no such file'
    lines = str(error).split('\n')
    return lines[0].strip() or type(error).__name__
