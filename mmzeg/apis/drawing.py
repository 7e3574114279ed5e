"""A label map over its picture, with a legend that can be read."""

import colorsys
import io
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmzeg.class_names import split_synonyms


def palette(count: int) -> np.ndarray:
    """(count, 3) uint8 RGB colours; neighbours are far apart in hue, those of one hue in brightness."""
    hues = (np.arange(count) * 0.618034) % 1
    shades = [
        colorsys.hsv_to_rgb(hue, (0.85, 0.55)[index % 2], (1.0, 0.75)[index // 2 % 2]) for index, hue in enumerate(hues)
    ]
    return (255 * np.array(shades)).round().astype(np.uint8)


def overlay(
    picture: np.ndarray,
    label_map: np.ndarray,
    names: Sequence[str],
    unseen: Collection[str] = (),
    opacity: float = 0.55,
    steady: bool = False,
) -> np.ndarray:
    """A picture (H, W', 3) uint8: the colours of classes over (H, W, 3) in grey, and beside it the names, by area.

    Args:
        picture (np.ndarray): (H, W, 3) uint8 RGB.
        label_map (np.ndarray): (H, W) indices of ``names``.
        names (Sequence[str]): Class names; of synonyms the first is written.
        unseen (Collection[str]): Names that get a star.
        opacity (float): Of the colours, 0..1.
        steady (bool): For videos: W' is the same whatever is found, and every name has its row if there is room.
    """
    colours = palette(len(names))
    # Over grey, as a blue sky under another colour would have the colour of a third class.
    grey = np.asarray(Image.fromarray(picture).convert('L'))[..., None]
    drawn = ((1 - opacity) * grey + opacity * colours[label_map]).astype(np.uint8)
    drawn[:, 1:][label_map[:, 1:] != label_map[:, :-1]] = 0
    drawn[1:][label_map[1:] != label_map[:-1]] = 0
    counts = np.bincount(label_map.ravel(), minlength=len(names))
    size = int(np.clip(picture.shape[0] // 28, 12, 40))
    font, line = _font(size), int(1.6 * size)
    # What does not fit is counted, not cut.
    fitting = max(1, picture.shape[0] // line)
    order = np.argsort(-counts, kind='stable')[: np.count_nonzero(counts)]
    if steady and len(names) <= fitting:
        order = np.arange(len(names))
    titles = [f'{split_synonyms(name)[0]}{"*" if name in unseen else ""}  ' for name in names]
    rows = [(colours[label], titles[label] + percent(counts[label] / label_map.size)) for label in order]
    if len(rows) > fitting:
        rows = [*rows[: fitting - 1], (None, f'and {len(rows) - fitting + 1} more')]
    widest = [f'{title}100.0 %' for title in titles] if steady else [text for _, text in rows]
    width = int(max(map(font.getlength, widest))) + 3 * size
    legend = Image.new('RGB', (width, max(picture.shape[0], line)), 'white')
    pen = ImageDraw.Draw(legend)
    for number, (colour, text) in enumerate(rows):
        top = number * line + (line - size) // 2
        if colour is not None:
            pen.rectangle((size // 2, top, size // 2 + size, top + size), fill=tuple(colour.tolist()), outline='black')
        pen.text((2 * size, top), text, fill='black', font=font)
    drawn = np.pad(drawn, ((0, legend.height - drawn.shape[0]), (0, 0), (0, 0)), constant_values=255)
    return np.concatenate([drawn, np.asarray(legend)], 1)


def indexed_png(label_map: np.ndarray, count: int) -> bytes:
    """A PNG of (H, W) indices of ``count`` classes in the colours of ``palette``; of more than 256 16 bits of grey."""
    if count > 256:
        return encoded(Image.fromarray(label_map.astype(np.uint16)), 'PNG')
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(palette(count).tobytes())
    return encoded(image, 'PNG')


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """In memory, before a file is opened: of a full disk Pillow's own writing says nothing that helps."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def percent(share: float) -> str:
    """A share, 0..1, in %."""
    return '< 0.1 %' if 0 < share < 0.0005 else f'{100 * share:.1f} %'


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf')), size)
