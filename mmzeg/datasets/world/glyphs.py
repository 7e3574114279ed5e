"""Silhouettes of matplotlib's own DejaVu Sans, filled by arithmetic that is the same on every machine.

Only + - * / and comparisons of float64, which IEEE 754 fixes to the last bit, and integers: no library's rasteriser,
whose next version may round another way, and no sine, which processors round differently.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.pens.basePen import decomposeQuadraticSegment
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont

FONT_SHA256 = '3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22'
CURVE_STEPS = 6
# Samples a pixel is judged by, along each side.
SAMPLES = 4


@lru_cache
def outline(codepoint: int) -> tuple[np.ndarray, ...]:
    """Closed contours (n, 2) of a glyph: x right, y down, its box centred on 0 with a longer side of 1.

    Raises:
        ValueError: matplotlib's DejaVu Sans is not the release that the world is drawn with.
    """
    font, glyphs = _font()
    pen = DecomposingRecordingPen(glyphs)
    glyphs[font.getBestCmap()[codepoint]].draw(pen)
    contours = [np.array(contour, np.float64) for contour in _flatten(pen.value)]
    points = np.concatenate(contours)
    low, high = points.min(0), points.max(0)
    scale = (high - low).max()
    return tuple((contour - (low + high) / 2) / scale * (1, -1) for contour in contours)


@lru_cache
def _font() -> tuple[TTFont, object]:
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != FONT_SHA256:
        raise ValueError(
            f'{path}: not DejaVu Sans 2.37 (SHA-256 {found[:12]}, expected {FONT_SHA256[:12]}), so the world would '
            'look different: pip install --force-reinstall --no-deps matplotlib'
        )
    font = TTFont(path)
    return font, font.getGlyphSet()


def _flatten(commands: Sequence[tuple]) -> list[list[tuple[float, float]]]:
    contours: list[list[tuple[float, float]]] = []
    for command, points in commands:
        if command == 'moveTo':
            contours.append([points[0]])
        elif command == 'lineTo':
            contours[-1].append(points[0])
        elif command == 'qCurveTo':
            if points[-1] is None:  # a contour of curves alone: it starts between its last and its first control point
                (x0, y0), (x1, y1) = points[-2], points[0]
                start = ((x0 + x1) / 2, (y0 + y1) / 2)
                contours.append([start])
                points = (*points[:-1], start)
            for control, end in decomposeQuadraticSegment(points):
                contours[-1] += _curve(contours[-1][-1], control, end)
    return contours


def _curve(start: tuple, control: tuple, end: tuple) -> list[tuple[float, float]]:
    found = []
    for step in range(1, CURVE_STEPS + 1):
        t = step / CURVE_STEPS
        a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
        found.append((a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]))
    return found


def fill(contours: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """How many of a pixel's SAMPLES^2 points lie inside: (height, width) int64, by the nonzero winding rule.

    Args:
        contours (Sequence[ndarray]): Closed contours (n, 2) of x, y in pixels.
        height (int): Rows.
        width (int): Columns.
    """
    found = np.zeros((height, width), np.int64)
    starts = np.concatenate(contours)
    ends = np.concatenate([np.concatenate([contour[1:], contour[:1]]) for contour in contours])
    left, top = np.maximum(np.floor(starts.min(0)), 0).astype(np.int64)
    right, bottom = np.minimum(np.ceil(starts.max(0)), (width, height)).astype(np.int64)
    if left < right and top < bottom:
        corner = (left, top)
        box = _fill_box((starts - corner) * SAMPLES, (ends - corner) * SAMPLES, bottom - top, right - left)
        found[top:bottom, left:right] = box
    return found


def _fill_box(starts: np.ndarray, ends: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = height * SAMPLES, width * SAMPLES
    down = starts[:, 1] < ends[:, 1]
    (x0, y0), (x1, y1) = np.where(down, starts.T, ends.T), np.where(down, ends.T, starts.T)
    # Sample row r lies at r + 0.5 and is crossed where y0 <= r + 0.5 < y1; so are the columns.
    first = np.clip(np.ceil(y0 - 0.5), 0, rows).astype(np.int64)
    crossed = np.clip(np.ceil(y1 - 0.5), 0, rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(first)), crossed)
    row = np.arange(len(edge)) - (np.cumsum(crossed) - crossed)[edge] + first[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    at = row * (columns + 1) + np.clip(np.ceil(x - 0.5), 0, columns).astype(np.int64)
    ups, downs = (np.bincount(at[down[edge] == way], minlength=rows * (columns + 1)) for way in (False, True))
    winding = (downs - ups).reshape(rows, columns + 1).cumsum(1)[:, :columns]
    inside = (winding != 0).astype(np.int64)
    return sum(inside[i::SAMPLES, j::SAMPLES] for i in range(SAMPLES) for j in range(SAMPLES))
