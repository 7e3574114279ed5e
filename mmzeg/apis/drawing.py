"""Label maps as images: colours over the input with a legend, and PNG files with a palette."""

import io
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmzeg.class_names import split_synonyms
from mmzeg.utils.palette import palette


def overlay(
    image: np.ndarray,
    label_map: np.ndarray,
    names: Sequence[str],
    unseen: Collection[str] = (),
    opacity: float = 0.55,
    fixed_layout: bool = False,
) -> np.ndarray:
    """Draw a label map over its image in grey, with a legend of the classes by area to the right.

    Args:
        image (np.ndarray): (H, W, 3) uint8 RGB.
        label_map (np.ndarray): (H, W) indices of ``names``.
        names (Sequence[str]): Class names; of synonyms the first is written.
        unseen (Collection[str]): Names that get a star.
        opacity (float): Of the colours, 0..1. Defaults to 0.55.
        fixed_layout (bool): For videos: the width is the same for every label map, and every class has its own row if
            all fit. Defaults to False.

    Returns:
        np.ndarray: (H', W', 3) uint8 RGB; H' is H, or the height of one legend row if that is larger.
    """
    colours = palette(len(names))
    # Over grey: a blue sky under another colour would look like a third class.
    grey = np.asarray(Image.fromarray(image).convert('L'))[..., None]
    drawing = ((1 - opacity) * grey + opacity * colours[label_map]).astype(np.uint8)
    # Black outlines between classes.
    drawing[:, 1:][label_map[:, 1:] != label_map[:, :-1]] = 0
    drawing[1:][label_map[1:] != label_map[:-1]] = 0

    # Rows of the legend: colour and text.
    font_size = int(np.clip(image.shape[0] // 28, 12, 40))
    line_height = int(1.6 * font_size)
    max_rows = max(1, image.shape[0] // line_height)
    areas = np.bincount(label_map.ravel(), minlength=len(names))
    labels = np.argsort(-areas, kind='stable')[: np.count_nonzero(areas)]
    if fixed_layout and len(names) <= max_rows:
        labels = np.arange(len(names))
    titles = [f'{split_synonyms(name)[0]}{"*" if name in unseen else ""}  ' for name in names]
    rows = [(colours[label], titles[label] + percent(areas[label] / label_map.size)) for label in labels]
    if len(rows) > max_rows:
        rows = [*rows[: max_rows - 1], (None, f'and {len(rows) - max_rows + 1} more')]

    # Wide enough for the longest text, of all classes if the layout is fixed.
    font = _font(font_size)
    texts = [f'{title}100.0 %' for title in titles] if fixed_layout else [text for _, text in rows]
    width = int(max(map(font.getlength, texts))) + 3 * font_size
    legend = Image.new('RGB', (width, max(image.shape[0], line_height)), 'white')
    pen = ImageDraw.Draw(legend)
    for index, (colour, text) in enumerate(rows):
        top = index * line_height + (line_height - font_size) // 2
        if colour is not None:
            box = (font_size // 2, top, font_size // 2 + font_size, top + font_size)
            pen.rectangle(box, fill=tuple(colour.tolist()), outline='black')
        pen.text((2 * font_size, top), text, fill='black', font=font)
    drawing = np.pad(drawing, ((0, legend.height - drawing.shape[0]), (0, 0), (0, 0)), constant_values=255)
    return np.concatenate([drawing, np.asarray(legend)], 1)


def indexed_png(label_map: np.ndarray, num_classes: int, ignore_index: int | None = None) -> bytes:
    """Encode a label map as PNG: class indices of 8 bits with ``palette``, or of 16 bits as grey if they need it.

    Args:
        label_map (np.ndarray): (H, W) class indices.
        num_classes (int): Number of classes.
        ignore_index (int, optional): Value of pixels without a class, which are drawn black.
    """
    highest = num_classes - 1 if ignore_index is None else max(num_classes - 1, ignore_index)
    if highest > 255:
        return encode_image_file(Image.fromarray(label_map.astype(np.uint16)), 'PNG')
    image = Image.fromarray(label_map.astype(np.uint8))
    # Values without a class are black. Pillow stores as few bits as the palette needs.
    colours = np.zeros((highest + 1, 3), np.uint8)
    colours[:num_classes] = palette(num_classes)
    image.putpalette(colours.tobytes())
    return encode_image_file(image, 'PNG')


def encode_image_file(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Return the bytes of an image file. Pillow's own writing reports a full disk without naming the file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def percent(fraction: float) -> str:
    """Format a fraction, 0..1, in percent."""
    return '< 0.1 %' if 0 < fraction < 0.0005 else f'{100 * fraction:.1f} %'


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf')), size)
