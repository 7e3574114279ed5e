"""Six textures, each (H, W, 3) float64 in 0..255 from a RandomState, by the arithmetic that glyphs.py explains.

NumPy freezes RandomState's streams; a Generator's may change with a release.
"""

import numpy as np
from numpy.random import RandomState


def integers(random: RandomState, low: int, high: int, shape: int | tuple | None = None) -> np.ndarray | int:
    """Integers in [low, high); 64 bits wide, since the width decides the stream and differs between platforms."""
    return random.randint(low, high, shape, dtype=np.int64)


def noise(random: RandomState, height: int, width: int, cell_y: float, cell_x: float) -> np.ndarray:
    """Smooth noise (H, W) in 0..1: a random lattice of cells of so many pixels, brought up by smoothstep."""
    lattice = random.random_sample((int(height / cell_y) + 2, int(width / cell_x) + 2))
    y, x = np.arange(height) / cell_y, np.arange(width) / cell_x
    top, left = y.astype(np.int64), x.astype(np.int64)
    v, u = _smooth(y - top)[:, None], _smooth(x - left)[None]
    rows = lattice[:, left] * (1 - u) + lattice[:, left + 1] * u
    return rows[top] * (1 - v) + rows[top + 1] * v


def wave(phase: np.ndarray) -> np.ndarray:
    """A rounded triangle wave of period 1, in 0..1."""
    return _smooth(np.abs((phase - np.floor(phase)) * 2 - 1))


def _smooth(t: np.ndarray) -> np.ndarray:
    return t * t * (3 - 2 * t)


def _blend(share: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + share[..., None] * (high - low)


def _tint(random: RandomState, colour: tuple[int, int, int], spread: float = 22) -> np.ndarray:
    return np.array(colour, np.float64) + (random.random_sample(3) - 0.5) * 2 * spread


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]


def grass(random: RandomState, height: int, width: int) -> np.ndarray:
    """Upright blades in patches."""
    blades = 0.6 * noise(random, height, width, 5, 1.5) + 0.4 * noise(random, height, width, 14, 14)
    return _blend(blades, _tint(random, (22, 60, 16)), _tint(random, (90, 150, 60)))


def sand(random: RandomState, height: int, width: int) -> np.ndarray:
    """Fine grains on soft dunes."""
    grains = 0.35 * random.random_sample((height, width)) + 0.65 * noise(random, height, width, 26, 34)
    return _blend(grains, _tint(random, (176, 148, 92)), _tint(random, (236, 216, 160)))


def water(random: RandomState, height: int, width: int) -> np.ndarray:
    """Ripples that lie across."""
    y, _ = _grid(height, width)
    ripples = wave((y + 9 * noise(random, height, width, 18, 18)) / (6 + 4 * random.random_sample()))
    return _blend(ripples, _tint(random, (24, 70, 158)), _tint(random, (92, 158, 224)))


def brick(random: RandomState, height: int, width: int) -> np.ndarray:
    """Courses, every other one shifted by half a brick, in pale mortar."""
    tall, long = integers(random, 9, 14), integers(random, 20, 30)
    y, x = np.arange(height)[:, None] + integers(random, 0, tall), np.arange(width)[None] + integers(random, 0, long)
    course = y // tall
    x = x + course % 2 * (long // 2)
    shade = random.random_sample((int(course.max()) + 1, int(x.max()) // long + 1))[course, x // long]
    shade = 0.7 * shade + 0.3 * noise(random, height, width, 3, 3)
    clay = _blend(shade, _tint(random, (118, 44, 30)), _tint(random, (188, 96, 66)))
    mortar = (y % tall < 2) | (x % long < 2)
    return np.where(mortar[..., None], _tint(random, (196, 184, 168), 12), clay)


def sky(random: RandomState, height: int, width: int) -> np.ndarray:
    """Blue, paler below, with white clouds."""
    y, x = _grid(height, width)
    blue = _blend(y / height + 0 * x, _tint(random, (70, 120, 206), 14), _tint(random, (160, 198, 240), 14))
    clouds = 0.65 * noise(random, height, width, 20, 34) + 0.35 * noise(random, height, width, 8, 12)
    return _blend(np.clip((clouds - 0.45) * 4, 0, 1), blue, np.array([246.0, 248.0, 252.0]))


def wood(random: RandomState, height: int, width: int) -> np.ndarray:
    """Upright grain that winds."""
    _, x = _grid(height, width)
    grain = wave((x + 16 * noise(random, height, width, 48, 20)) / (7 + 5 * random.random_sample()))
    share = 0.75 * grain + 0.25 * noise(random, height, width, 12, 1.5)
    return _blend(share, _tint(random, (92, 58, 28)), _tint(random, (176, 126, 72)))


PAINTERS = dict(grass=grass, sand=sand, water=water, brick=brick, sky=sky, wood=wood)
