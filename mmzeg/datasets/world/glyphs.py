"""Silhouettes of matplotlib's own DejaVu Sans, filled by arithmetic that is the same on every machine.

Only + - * / and comparisons of float64, which IEEE 754 fixes to the last bit, and integers. The next version of a
library's rasteriser may round differently, and processors round sines differently.
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
# Straight lines per curve.
CURVE_STEPS = 6
# Samples per pixel, along each axis.
SAMPLES = 4

Point = tuple[float, float]


@lru_cache
def outline(codepoint: int) -> tuple[np.ndarray, ...]:
    """Return the closed contours (n, 2) of a glyph: x right, y down, its box centred on 0 with a longer side of 1.

    Raises:
        ValueError: matplotlib's DejaVu Sans is not the release from which the world is drawn.
    """
    font, glyphs = _font()
    pen = DecomposingRecordingPen(glyphs)
    glyphs[font.getBestCmap()[codepoint]].draw(pen)
    contours = [np.array(contour, np.float64) for contour in _flatten(pen.value)]
    # Centre and scale; fonts have y up.
    points = np.concatenate(contours)
    low, high = points.min(0), points.max(0)
    scale = (high - low).max()
    return tuple((contour - (low + high) / 2) / scale * (1, -1) for contour in contours)


@lru_cache
def _font() -> tuple[TTFont, object]:
    """Load matplotlib's font: the font and its glyphs."""
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != FONT_SHA256:
        raise ValueError(
            f'{path}: not DejaVu Sans 2.37 (SHA-256 {sha256[:12]}, expected {FONT_SHA256[:12]}), so the scenes would '
            'differ: pip install --force-reinstall --no-deps matplotlib'
        )
    font = TTFont(path)
    return font, font.getGlyphSet()


def _flatten(commands: Sequence[tuple]) -> list[list[Point]]:
    """Turn a pen's commands into closed contours of straight lines."""
    contours: list[list[Point]] = []
    for command, points in commands:
        if command == 'moveTo':
            contours.append([points[0]])
        elif command == 'lineTo':
            contours[-1].append(points[0])
        elif command == 'qCurveTo':
            # A contour of curves only starts halfway between its last and its first control point.
            if points[-1] is None:
                (x0, y0), (x1, y1) = points[-2], points[0]
                start = ((x0 + x1) / 2, (y0 + y1) / 2)
                contours.append([start])
                points = (*points[:-1], start)
            for control, end in decomposeQuadraticSegment(points):
                contours[-1] += _curve(contours[-1][-1], control, end)
    return contours


def _curve(start: Point, control: Point, end: Point) -> list[Point]:
    """Return the points of a quadratic Bezier curve, without its start."""
    points = []
    for step in range(1, CURVE_STEPS + 1):
        t = step / CURVE_STEPS
        a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
        x = a * start[0] + b * control[0] + c * end[0]
        y = a * start[1] + b * control[1] + c * end[1]
        points.append((x, y))
    return points


def fill(contours: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Count the samples of every pixel that contours enclose, by the nonzero winding rule.

    Args:
        contours (Sequence[ndarray]): Closed contours (n, 2) of x, y in pixels.
        height (int): Rows.
        width (int): Columns.

    Returns:
        ndarray: (height, width) int64, 0 to SAMPLES^2.
    """
    counts = np.zeros((height, width), np.int64)
    # Edges of all contours.
    starts = np.concatenate(contours)
    ends = np.concatenate([np.concatenate([contour[1:], contour[:1]]) for contour in contours])
    # Count only in their bounding box.
    left, top = np.maximum(np.floor(starts.min(0)), 0).astype(np.int64)
    right, bottom = np.minimum(np.ceil(starts.max(0)), (width, height)).astype(np.int64)
    if left < right and top < bottom:
        corner = (left, top)
        box = _fill_box((starts - corner) * SAMPLES, (ends - corner) * SAMPLES, bottom - top, right - left)
        counts[top:bottom, left:right] = box
    return counts


def _fill_box(starts: np.ndarray, ends: np.ndarray, height: int, width: int) -> np.ndarray:
    """Count the enclosed samples of every pixel of a box; edges (n, 2) are in samples."""
    rows, columns = height * SAMPLES, width * SAMPLES
    # Order the ends of every edge by y.
    down = starts[:, 1] < ends[:, 1]
    x0, y0 = np.where(down, starts.T, ends.T)
    x1, y1 = np.where(down, ends.T, starts.T)
    # An edge crosses sample row r, at r + 0.5, where y0 <= r + 0.5 < y1. Columns follow the same rule.
    first = np.clip(np.ceil(y0 - 0.5), 0, rows).astype(np.int64)
    num_crossings = np.clip(np.ceil(y1 - 0.5), 0, rows).astype(np.int64) - first
    # For every crossing: its edge, sample row, x, and index in a flat array of rows.
    edge = np.repeat(np.arange(len(first)), num_crossings)
    row = np.arange(len(edge)) - (np.cumsum(num_crossings) - num_crossings)[edge] + first[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    flat_index = row * (columns + 1) + np.clip(np.ceil(x - 0.5), 0, columns).astype(np.int64)
    # The winding number of a sample is the sum of the crossings on its left.
    num_bins = rows * (columns + 1)
    ups = np.bincount(flat_index[~down[edge]], minlength=num_bins)
    downs = np.bincount(flat_index[down[edge]], minlength=num_bins)
    winding = (downs - ups).reshape(rows, columns + 1).cumsum(1)[:, :columns]
    enclosed = (winding != 0).astype(np.int64)
    return sum(enclosed[i::SAMPLES, j::SAMPLES] for i in range(SAMPLES) for j in range(SAMPLES))
