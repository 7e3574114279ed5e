"""Scenes of one or two textures and two to five objects with soft shadows, and images of a single class."""

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from mmzeg.datasets.world.glyphs import SAMPLES, fill, outline
from mmzeg.datasets.world.textures import PAINTERS, integers, noise
from mmzeg.datasets.world.vocabulary import CLASSES, OBJECTS, TEXTURES, UNSEEN

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Scene:
    """Everything that determines a scene.

    Args:
        split (str): ``train``, ``val`` or ``test``; their scenes have nothing in common.
        index (int): Number within the split, >= 0.
        size (int): Height and width, in pixels, >= 32.
        unseen_frequency (float): Frequency of an unseen class relative to a seen one, 0..1.
        seed (int): Seed of the world, in [0, 2**32): another seed gives other scenes of the same classes.

    Raises:
        ValueError: An unknown split, or a number out of range.
    """

    split: str
    index: int
    size: int = 128
    unseen_frequency: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f'world split {self.split!r} is unknown: use one of {", ".join(SPLITS)}')
        if self.index < 0 or self.size < 32:
            raise ValueError(f'scene {self.index} of {self.size} pixels: index must be 0 or more, size 32 or more')
        if not 0 <= self.seed < 2**32:
            raise ValueError(f'seed must lie in [0, 2**32), got {self.seed}')
        if not 0 <= self.unseen_frequency <= 1:
            raise ValueError(f'unseen_frequency must lie in [0, 1], got {self.unseen_frequency}')


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: image (size, size, 3) uint8 RGB and label map (size, size) uint8, indices of ``CLASSES``."""
    random = RandomState([scene.seed, SPLITS.index(scene.split), scene.index])
    size = scene.size
    # Draw the ground, then the objects, each over the earlier ones.
    image, label_map = _draw_ground(random, size, scene.unseen_frequency)
    for _ in range(integers(random, 2, 6)):
        name = _choose_class(random, tuple(OBJECTS), scene.unseen_frequency)
        coverage = _object_coverage(random, name, size)
        _paint_object(random, image, coverage)
        # A pixel is the object's if the object covers at least half of its samples.
        label_map[coverage * 2 >= SAMPLES**2] = CLASSES.index(name)
    return _expose(random, image), label_map


def draw_object(name: str, split: str, index: int, size: int = 64, unseen_frequency: float = 1.0) -> np.ndarray:
    """Draw an image (size, size, 3) uint8 RGB of a single class: a large object on a ground, or only a texture.

    Args:
        name (str): One of ``CLASSES``.
        split (str): ``train``, ``val`` or ``test``.
        index (int): Number within the split's images of this class, >= 0.
        size (int): Height and width, in pixels.
        unseen_frequency (float): Frequency of an unseen ground texture relative to a seen one, 0..1.
    """
    random = RandomState([SPLITS.index(split), index, CLASSES.index(name), 1])
    if name in TEXTURES:
        return _expose(random, PAINTERS[name](random, size, size))
    image, _ = _draw_ground(random, size, unseen_frequency)
    _paint_object(random, image, _object_coverage(random, name, size, scale=(0.5, 0.4), centre=(0.4, 0.2)))
    return _expose(random, image)


def _paint_object(random: RandomState, image: np.ndarray, coverage: np.ndarray) -> None:
    """Paint an object and its shadow into an image, in place.

    Args:
        random (RandomState): Random numbers.
        image (ndarray): (H, W, 3) float64.
        coverage (ndarray): (H, W) int64, the samples of every pixel that the object covers.
    """
    size = len(coverage)
    shadow_shift = integers(random, 1, 1 + max(1, size // 24), 2)
    radius = max(1, size // 64)
    colours = _object_colours(random, size)
    # Limit the work to the reach of the shadow.
    rows = np.flatnonzero(coverage.any(1))
    columns = np.flatnonzero(coverage.any(0))
    if not len(rows):
        return
    window = tuple(
        slice(max(0, covered[0] - 2 * radius), covered[-1] + 1 + shadow_shift.max() + 2 * radius)
        for covered in (rows, columns)
    )
    # Darken the ground, then blend in the object.
    alpha = coverage[window] / SAMPLES**2
    region = image[window]
    region *= 1 - 0.5 * _shadow(alpha, shadow_shift, radius)[..., None]
    region += alpha[..., None] * (colours[window] - region)


def _expose(random: RandomState, image: np.ndarray) -> np.ndarray:
    """Add light from one side and noise, and return (H, W, 3) uint8."""
    image = image * _light(random, len(image))[..., None] + integers(random, -9, 10, image.shape)
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)


def _choose_class(random: RandomState, names: tuple[str, ...], unseen_frequency: float) -> str:
    """Choose one of the names; an unseen one is rejected with a probability of 1 - ``unseen_frequency``."""
    while True:
        name = names[integers(random, 0, len(names))]
        if name not in UNSEEN or random.random_sample() < unseen_frequency:
            return name


def _draw_ground(random: RandomState, size: int, unseen_frequency: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw one texture, or two on the sides of a winding border: image (size, size, 3) float64 and label map."""
    first, second = (_choose_class(random, TEXTURES, unseen_frequency) for _ in range(2))
    image = PAINTERS[first](random, size, size)
    label_map = np.full((size, size), CLASSES.index(first), np.uint8)
    if first != second:
        c, s = _direction(random)
        y, x = np.arange(size)[:, None] / size - 0.5, np.arange(size)[None] / size - 0.5
        distance = c * x + s * y + 0.3 * (noise(random, size, size, size / 4, size / 4) - 0.5)
        beyond = distance > 0.4 * (random.random_sample() - 0.5)
        image = np.where(beyond[..., None], PAINTERS[second](random, size, size), image)
        label_map[beyond] = CLASSES.index(second)
    return image, label_map


def _direction(random: RandomState) -> tuple[float, float]:
    """Draw a unit vector, all directions equally likely."""
    while True:
        x, y = 2 * random.random_sample(2) - 1
        length = np.sqrt(x * x + y * y)
        if 0.1 < length <= 1:
            return x / length, y / length


def _object_coverage(
    random: RandomState,
    name: str,
    size: int,
    scale: tuple[float, float] = (0.26, 0.28),
    centre: tuple[float, float] = (0.12, 0.76),
) -> np.ndarray:
    """Count the covered samples (size, size) of an object that is rotated, scaled, stretched and moved at random.

    Args:
        random (RandomState): Random numbers.
        name (str): One of ``OBJECTS``.
        size (int): Height and width of the scene, in pixels.
        scale (tuple[float, float]): Least value and range of the uniform scale, as fractions of ``size``.
        centre (tuple[float, float]): Least value and range of both coordinates of the centre, likewise.
    """
    # Half of the objects are upright (people draw flags and hands upright), the others rotated by any angle.
    c, s = _direction(random)
    rotated = random.random_sample() < 0.5
    c, s = (c, s) if rotated else (1.0, 0.0)
    length = size * (scale[0] + scale[1] * random.random_sample())
    stretch_x, stretch_y = 0.8 + 0.4 * random.random_sample(2)
    x0, y0 = size * (centre[0] + centre[1] * random.random_sample(2))
    mirror = 1 - 2 * integers(random, 0, 2)
    contours = []
    for contour in outline(OBJECTS[name]):
        x, y = contour[:, 0] * (length * stretch_x * mirror), contour[:, 1] * (length * stretch_y)
        contours.append(np.stack([c * x - s * y + x0, s * x + c * y + y0], 1))
    return fill(contours, size, size)


def _object_colours(random: RandomState, size: int) -> np.ndarray:
    """Draw colours (size, size, 3) of an object: one random colour, lighter towards one side, slightly rough."""
    colour = 30 + 215 * random.random_sample(3)
    c, s = _direction(random)
    slope = c * (np.arange(size)[None] / size - 0.5) + s * (np.arange(size)[:, None] / size - 0.5)
    roughness = noise(random, size, size, 6, 6) - 0.5
    return colour * (1 + 0.35 * slope + 0.12 * roughness)[..., None]


def _shadow(alpha: np.ndarray, shift: np.ndarray, radius: int) -> np.ndarray:
    """Return a silhouette (H, W) in 0..1, moved down and right and blurred by two box filters.

    Args:
        alpha (ndarray): The silhouette (H, W) in 0..1.
        shift (ndarray): Pixels down and right.
        radius (int): Radius of the box filters, in pixels.
    """
    height, width = alpha.shape
    down, right = shift
    shadow = np.zeros_like(alpha)
    shadow[down:, right:] = alpha[: height - down, : width - right]
    for _ in range(2):
        for axis in (0, 1):
            shadow = _box_filter(shadow, radius, axis)
    return shadow


def _box_filter(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Average (H, W) over 2 * radius + 1 pixels along an axis; edges are repeated."""
    pad = [(radius, radius) if dimension == axis else (0, 0) for dimension in range(2)]
    padded = np.pad(values, pad, mode='edge')
    length = values.shape[axis]
    total = np.zeros_like(values)
    for start in range(2 * radius + 1):
        total += padded[start : start + length] if axis == 0 else padded[:, start : start + length]
    return total / (2 * radius + 1)


def _light(random: RandomState, size: int) -> np.ndarray:
    """Draw a brightness (size, size) that rises towards one side."""
    c, s = _direction(random)
    slope = c * (np.arange(size)[None] / size - 0.5) + s * (np.arange(size)[:, None] / size - 0.5)
    return 0.78 + 0.34 * random.random_sample() + 0.3 * slope
