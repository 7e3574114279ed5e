"""Scenes of one or two textures and two to five objects with soft shadows, and pictures of one class alone."""

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from mmzeg.datasets.world.glyphs import SAMPLES, fill, outline
from mmzeg.datasets.world.textures import PAINTERS, integers, noise
from mmzeg.datasets.world.vocabulary import CLASSES, OBJECTS, TEXTURES, UNSEEN

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Scene:
    """Everything a scene depends on.

    Args:
        split (str): ``train``, ``val`` or ``test``; their scenes have nothing in common.
        index (int): Number within the split, >= 0.
        size (int): Height and width, in pixels.
        unseen_share (float): How often an unseen kind is drawn where a seen one is drawn once, 0..1.
        seed (int): Another world of the same kinds, in [0, 2**32).

    Raises:
        ValueError: An unknown split, or a number out of range.
    """

    split: str
    index: int
    size: int = 128
    unseen_share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f'world split {self.split!r} is unknown: use one of {", ".join(SPLITS)}')
        if self.index < 0 or self.size < 32:
            raise ValueError(f'scene {self.index} of {self.size} pixels: index must be 0 or more, size 32 or more')
        if not 0 <= self.seed < 2**32:
            raise ValueError(f'seed must lie in [0, 2**32), got {self.seed}')
        if not 0 <= self.unseen_share <= 1:
            raise ValueError(f'unseen_share must lie in [0, 1], got {self.unseen_share}')


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Picture (size, size, 3) uint8 RGB and label map (size, size) uint8, indices of ``CLASSES``, of a scene."""
    random = RandomState([scene.seed, SPLITS.index(scene.split), scene.index])
    size = scene.size
    picture, label = _ground(random, size, scene.unseen_share)
    for _ in range(integers(random, 2, 6)):
        name = _pick(random, tuple(OBJECTS), scene.unseen_share)
        inside = _object(random, name, size)
        _lay(random, picture, inside)
        label[inside * 2 >= SAMPLES**2] = CLASSES.index(name)
    return _photograph(random, picture), label


def draw_object(name: str, split: str, index: int, size: int = 64, unseen_share: float = 1.0) -> np.ndarray:
    """A picture (size, size, 3) uint8 RGB that shows one class: an object that fills it, or nothing but a texture.

    Args:
        name (str): One of ``CLASSES``.
        split (str): ``train``, ``val`` or ``test``.
        index (int): Number within the split's pictures of this class, >= 0.
        size (int): Height and width, in pixels.
        unseen_share (float): How often the ground is an unseen texture where it is a seen one once, 0..1.
    """
    random = RandomState([SPLITS.index(split), index, CLASSES.index(name), 1])
    if name in TEXTURES:
        return _photograph(random, PAINTERS[name](random, size, size))
    picture, _ = _ground(random, size, unseen_share)
    _lay(random, picture, _object(random, name, size, scale=(0.5, 0.4), centre=(0.4, 0.2)))
    return _photograph(random, picture)


def _lay(random: RandomState, picture: np.ndarray, inside: np.ndarray) -> None:
    """Paint an object (its covered samples (H, W)) and its shadow into a picture (H, W, 3)."""
    size = len(inside)
    shift, radius = integers(random, 1, 1 + max(1, size // 24), 2), max(1, size // 64)
    paint = _paint(random, size)
    # Nothing changes beyond the reach of the shadow.
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    window = tuple(
        slice(max(0, covered[0] - 2 * radius), covered[-1] + 1 + shift.max() + 2 * radius)
        for covered in (rows, columns)
    )
    share, part = inside[window] / SAMPLES**2, picture[window]
    part *= 1 - 0.5 * _shadow(share, shift, radius)[..., None]
    part += share[..., None] * (paint[window] - part)


def _photograph(random: RandomState, picture: np.ndarray) -> np.ndarray:
    """Light that falls from one side, and noise: (H, W, 3) uint8."""
    picture = picture * _light(random, len(picture))[..., None] + integers(random, -9, 10, picture.shape)
    return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)


def _pick(random: RandomState, names: tuple[str, ...], unseen_share: float) -> str:
    while True:
        name = names[integers(random, 0, len(names))]
        if name not in UNSEEN or random.random_sample() < unseen_share:
            return name


def _ground(random: RandomState, size: int, unseen_share: float) -> tuple[np.ndarray, np.ndarray]:
    first, second = (_pick(random, TEXTURES, unseen_share) for _ in range(2))
    picture = PAINTERS[first](random, size, size)
    label = np.full((size, size), CLASSES.index(first), np.uint8)
    if first != second:
        c, s = _direction(random)
        y, x = np.arange(size)[:, None] / size - 0.5, np.arange(size)[None] / size - 0.5
        side = c * x + s * y + 0.3 * (noise(random, size, size, size / 4, size / 4) - 0.5)
        beyond = side > 0.4 * (random.random_sample() - 0.5)
        picture = np.where(beyond[..., None], PAINTERS[second](random, size, size), picture)
        label[beyond] = CLASSES.index(second)
    return picture, label


def _direction(random: RandomState) -> tuple[float, float]:
    """A random unit vector, all directions alike."""
    while True:
        x, y = 2 * random.random_sample(2) - 1
        length = np.sqrt(x * x + y * y)
        if 0.1 < length <= 1:
            return x / length, y / length


def _object(
    random: RandomState,
    name: str,
    size: int,
    scale: tuple[float, float] = (0.26, 0.28),
    centre: tuple[float, float] = (0.12, 0.76),
) -> np.ndarray:
    """Covered samples (size, size) of an object that is turned, scaled, stretched and placed at random.

    Its scale and centre are uniform, each given as the least value and the span, as shares of the size.
    """
    # Upright by half, else turned at will: a flag and a hand are as often upright as people draw them.
    c, s = _direction(random)
    turn = random.random_sample() < 0.5
    c, s = (c, s) if turn else (1.0, 0.0)
    length = size * (scale[0] + scale[1] * random.random_sample())
    wide, tall = 0.8 + 0.4 * random.random_sample(2)
    x0, y0 = size * (centre[0] + centre[1] * random.random_sample(2))
    mirrored = 1 - 2 * integers(random, 0, 2)
    contours = []
    for contour in outline(OBJECTS[name]):
        x, y = contour[:, 0] * (length * wide * mirrored), contour[:, 1] * (length * tall)
        contours.append(np.stack([c * x - s * y + x0, s * x + c * y + y0], 1))
    return fill(contours, size, size)


def _paint(random: RandomState, size: int) -> np.ndarray:
    """A colour of its own, lighter to one side, a little rough."""
    colour = 30 + 215 * random.random_sample(3)
    c, s = _direction(random)
    slope = c * (np.arange(size)[None] / size - 0.5) + s * (np.arange(size)[:, None] / size - 0.5)
    rough = noise(random, size, size, 6, 6) - 0.5
    return colour * (1 + 0.35 * slope + 0.12 * rough)[..., None]


def _shadow(share: np.ndarray, shift: np.ndarray, radius: int) -> np.ndarray:
    """A silhouette (H, W) in 0..1 moved down and right, and blurred by two box filters of so many pixels."""
    height, width = share.shape
    down, right = shift
    moved = np.zeros_like(share)
    moved[down:, right:] = share[: height - down, : width - right]
    for _ in range(2):
        for axis in (0, 1):
            moved = _box(moved, radius, axis)
    return moved


def _box(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    pad = [(radius, radius) if dimension == axis else (0, 0) for dimension in range(2)]
    padded = np.pad(values, pad, mode='edge')
    length = values.shape[axis]
    total = np.zeros_like(values)
    for start in range(2 * radius + 1):
        total += padded[start : start + length] if axis == 0 else padded[:, start : start + length]
    return total / (2 * radius + 1)


def _light(random: RandomState, size: int) -> np.ndarray:
    c, s = _direction(random)
    slope = c * (np.arange(size)[None] / size - 0.5) + s * (np.arange(size)[:, None] / size - 0.5)
    return 0.78 + 0.34 * random.random_sample() + 0.3 * slope
