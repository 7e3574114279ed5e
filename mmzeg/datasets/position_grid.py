"""A grid of cells that stands for the positions of pixels: it shows what transforms do to an image or its labels."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

# Applications of a random transform until its result is wrong.
NUM_TRIALS = 16
# Cells of the grid along each side.
NUM_CELLS = 16
# Pixels by which two resizes may move the border of two cells.
BORDER_SHIFT = 0.6


def position_grid(shape: Sequence[int]) -> np.ndarray:
    """Return a grid of 16 x 16 cells (H, W) uint8, numbered row by row."""
    rows, columns = (np.arange(length) * NUM_CELLS // length for length in shape)
    return (rows[:, None] * NUM_CELLS + columns).astype(np.uint8)


def apply_to_grid(
    transform: Callable[[dict], dict | None],
    results: dict,
    grid: np.ndarray,
    is_wrong: Callable[[np.ndarray, dict], bool],
) -> tuple[dict | None, np.ndarray | None]:
    """Apply a transform to a sample whose label map is the grid.

    A random transform is applied until the result is wrong, at most 16 times; its field ``prob`` becomes 1.

    Args:
        transform (Callable): A transform, which may keep its state: give a copy.
        results (dict): The sample, with its image and without labels.
        grid (ndarray): The grid (H, W).
        is_wrong (Callable): Takes the new grid and the sample without labels.

    Returns:
        tuple: The sample without labels, and the new grid; None where the transform removes them.
    """
    if isinstance(getattr(transform, 'prob', None), float) and transform.prob > 0:
        transform.prob = 1.0
    for _ in range(NUM_TRIALS):
        before = _random_state()
        sample = copy.deepcopy(results)
        sample['gt_seg_map'] = grid.copy()
        sample['seg_fields'] = [*sample.get('seg_fields', ()), 'gt_seg_map']
        sample = transform(sample)
        if sample is None or 'gt_seg_map' not in sample:
            return sample, None
        new_grid, sample = sample['gt_seg_map'], without_labels(sample)
        if _is_same_state(before, _random_state()) or is_wrong(new_grid, sample):
            break
    return sample, new_grid


def without_labels(results: dict) -> dict:
    """Return a sample without its label map."""
    results = {key: value for key, value in results.items() if key != 'gt_seg_map'}
    results['seg_fields'] = [key for key in results.get('seg_fields', ()) if key != 'gt_seg_map']
    return results


def is_not_undone(grid: np.ndarray, results: dict) -> bool:
    """Return whether mmseg's way back to the original image, a flip and a resize, leaves cells in other positions.

    Args:
        grid (ndarray): The grid (h, w), after the transforms of the image.
        results (dict): The sample, with mmseg's ``ori_shape``, ``flip`` and ``flip_direction``.
    """
    if 'ori_shape' not in results:
        return False
    # Flip and resize.
    shape = results['ori_shape'][:2]
    if results.get('flip'):
        if results['flip_direction'] not in ('horizontal', 'vertical'):
            return True
        grid = grid[:, ::-1] if results['flip_direction'] == 'horizontal' else grid[::-1]
    rows, columns = (
        ((np.arange(length) + 0.5) * resized / length).astype(int)
        for length, resized in zip(shape, grid.shape, strict=True)
    )
    restored = grid[rows[:, None], columns].astype(int)
    # Compare row and column of the cells.
    expected = position_grid(shape).astype(int)
    row_difference = np.abs(restored // NUM_CELLS - expected // NUM_CELLS).mean()
    column_difference = np.abs(restored % NUM_CELLS - expected % NUM_CELLS).mean()
    row_tolerance, column_tolerance = (
        BORDER_SHIFT * NUM_CELLS * (1 / length + 1 / resized) for length, resized in zip(shape, grid.shape, strict=True)
    )
    return bool(row_difference > row_tolerance or column_difference > column_tolerance)


@contextmanager
def same_random_state() -> Iterator[None]:
    """Seed the random generators of Python, NumPy and torch, and restore their state at the end."""
    python_state, numpy_state, torch_state = _random_state()
    random.seed(0)
    np.random.seed(0)
    torch.random.default_generator.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def _random_state() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _is_same_state(first: tuple, second: tuple) -> bool:
    return (
        first[0] == second[0]
        and all(np.array_equal(one, other) for one, other in zip(first[1], second[1], strict=True))
        and torch.equal(first[2], second[2])
    )
