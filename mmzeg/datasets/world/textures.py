"""Six textures, each (H, W, 3) float64 in 0..255 from a RandomState, by the arithmetic that glyphs.py explains.

NumPy freezes RandomState's streams; a Generator's may change with a release.
"""

import numpy as np
from numpy.random import RandomState

RGB = tuple[int, int, int]


def integers(random: RandomState, low: int, high: int, shape: int | tuple | None = None) -> np.ndarray | int:
    """Draw integers in [low, high); 64 bits wide, since the width decides the stream and differs between platforms."""
    return random.randint(low, high, shape, dtype=np.int64)


def noise(random: RandomState, height: int, width: int, cell_y: float, cell_x: float) -> np.ndarray:
    """Draw smooth noise (H, W) in 0..1: a random lattice, interpolated by smoothstep.

    Args:
        random (RandomState): Random numbers.
        height, width (int): Size of the noise, in pixels.
        cell_y, cell_x (float): Height and width of a lattice cell, in pixels.
    """
    lattice = random.random_sample((int(height / cell_y) + 2, int(width / cell_x) + 2))
    y, x = np.arange(height) / cell_y, np.arange(width) / cell_x
    top, left = y.astype(np.int64), x.astype(np.int64)
    v, u = _smoothstep(y - top)[:, None], _smoothstep(x - left)[None]
    rows = lattice[:, left] * (1 - u) + lattice[:, left + 1] * u
    return rows[top] * (1 - v) + rows[top + 1] * v


def wave(phase: np.ndarray) -> np.ndarray:
    """Return a rounded triangle wave of period 1, in 0..1."""
    return _smoothstep(np.abs((phase - np.floor(phase)) * 2 - 1))


def _smoothstep(t: np.ndarray) -> np.ndarray:
    return t * t * (3 - 2 * t)


def _blend(alpha: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Blend colours: ``low`` where ``alpha`` (H, W) is 0, ``high`` where it is 1."""
    return low + alpha[..., None] * (high - low)


def _tint(random: RandomState, colour: RGB, spread: float = 22) -> np.ndarray:
    """Draw a colour (3,) within ``spread`` of ``colour`` in each channel."""
    return np.array(colour, np.float64) + (random.random_sample(3) - 0.5) * 2 * spread


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates y (H, 1) and x (1, W)."""
    return np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]


def grass(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw upright blades in patches."""
    blades = 0.6 * noise(random, height, width, 5, 1.5) + 0.4 * noise(random, height, width, 14, 14)
    return _blend(blades, _tint(random, (22, 60, 16)), _tint(random, (90, 150, 60)))


def sand(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw fine grains on soft dunes."""
    grains = 0.35 * random.random_sample((height, width)) + 0.65 * noise(random, height, width, 26, 34)
    return _blend(grains, _tint(random, (176, 148, 92)), _tint(random, (236, 216, 160)))


def water(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw horizontal ripples."""
    y, _ = _grid(height, width)
    ripples = wave((y + 9 * noise(random, height, width, 18, 18)) / (6 + 4 * random.random_sample()))
    return _blend(ripples, _tint(random, (24, 70, 158)), _tint(random, (92, 158, 224)))


def brick(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw courses of bricks, every other one shifted by half a brick, in pale mortar."""
    # Lay out the bricks at a random offset.
    brick_height, brick_width = integers(random, 9, 14), integers(random, 20, 30)
    y = np.arange(height)[:, None] + integers(random, 0, brick_height)
    x = np.arange(width)[None] + integers(random, 0, brick_width)
    course = y // brick_height
    x = x + course % 2 * (brick_width // 2)
    # Colour the bricks, each in its own shade.
    shade = random.random_sample((int(course.max()) + 1, int(x.max()) // brick_width + 1))[course, x // brick_width]
    shade = 0.7 * shade + 0.3 * noise(random, height, width, 3, 3)
    clay = _blend(shade, _tint(random, (118, 44, 30)), _tint(random, (188, 96, 66)))
    # Fill the gaps with mortar.
    mortar = (y % brick_height < 2) | (x % brick_width < 2)
    return np.where(mortar[..., None], _tint(random, (196, 184, 168), 12), clay)


def sky(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw a blue sky, paler below, with white clouds."""
    y, x = _grid(height, width)
    blue = _blend(y / height + 0 * x, _tint(random, (70, 120, 206), 14), _tint(random, (160, 198, 240), 14))
    clouds = 0.65 * noise(random, height, width, 20, 34) + 0.35 * noise(random, height, width, 8, 12)
    return _blend(np.clip((clouds - 0.45) * 4, 0, 1), blue, np.array([246.0, 248.0, 252.0]))


def wood(random: RandomState, height: int, width: int) -> np.ndarray:
    """Draw upright, winding grain."""
    _, x = _grid(height, width)
    grain = wave((x + 16 * noise(random, height, width, 48, 20)) / (7 + 5 * random.random_sample()))
    brightness = 0.75 * grain + 0.25 * noise(random, height, width, 12, 1.5)
    return _blend(brightness, _tint(random, (92, 58, 28)), _tint(random, (176, 126, 72)))


PAINTERS = dict(grass=grass, sand=sand, water=water, brick=brick, sky=sky, wood=wood)
