"""Ignored pixels and statistics equal a plain reference."""

import numpy as np
import pytest
from scipy import ndimage

from mmzeg.labelling.uncertain_pixels import ignore_small_regions, ignore_uncertain_pixels, label_statistics


def remove_regions_by_flood_fill(labels, min_area, ignore_index):
    """Return labels without the small regions: each region by a search from its first pixel."""
    height, width = labels.shape
    output = labels.copy()
    visited = np.zeros(labels.shape, bool)
    for start in np.ndindex(height, width):
        if visited[start] or labels[start] == ignore_index:
            continue
        region = [start]
        visited[start] = True
        for row, column in region:
            for y in range(max(row - 1, 0), min(row + 2, height)):
                for x in range(max(column - 1, 0), min(column + 2, width)):
                    if not visited[y, x] and labels[y, x] == labels[row, column]:
                        visited[y, x] = True
                        region.append((y, x))
        if len(region) < min_area:
            for pixel in region:
                output[pixel] = ignore_index
    return output


@pytest.mark.parametrize('min_area', [0, 1, 2, 9, 40])
@pytest.mark.parametrize('ignore_index, dtype', [(255, np.uint8), (65535, np.uint16)])
def test_small_regions(min_area, ignore_index, dtype):
    generator = np.random.default_rng(0)
    labels = ndimage.zoom(generator.integers(0, 4, (9, 14)), 3, order=0).astype(dtype)
    labels[generator.random(labels.shape) < 0.2] = ignore_index
    labels[generator.random(labels.shape) < 0.1] = 3
    expected = remove_regions_by_flood_fill(labels, min_area, ignore_index)
    assert (expected != labels).any() == (min_area > 1)
    ignore_small_regions(labels, min_area, ignore_index)
    assert np.array_equal(labels, expected)


def test_pixels_that_touch_at_a_corner_are_one_region():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    ignore_small_regions(labels, 2, 255)
    assert labels.tolist() == [[1, 0], [0, 1]]
    ignore_small_regions(labels, 3, 255)
    assert (labels == 255).all()


def test_pixels_below_the_margin():
    labels = np.zeros((1, 3), np.uint8)
    margins = np.array([[0.0, 0.25, 0.5]], np.float32)
    ignore_uncertain_pixels(labels, margins, 0.0, 255)
    assert labels.tolist() == [[0, 0, 0]]
    ignore_uncertain_pixels(labels, margins, 0.25, 255)
    assert labels.tolist() == [[255, 0, 0]]


def test_statistics():
    labels = np.array([[0, 2, 2], [255, 2, 0]], np.uint8)
    margins = np.array([[0.1, 0.2, 0.3], [0.9, 0.4, 0.2]], np.float32)
    statistics = label_statistics(labels, margins, ['sky', 'sea', 'sand'], 255)
    assert statistics == dict(pixels=dict(sky=2, sand=3), ignored=1, margins=dict(sky=0.15, sand=0.3), mean_score=0.35)
    everything = label_statistics(np.full((2, 2), 255, np.uint8), np.full((2, 2), 0.5), ['sky'], 255)
    assert everything == dict(pixels={}, ignored=4, margins={}, mean_score=0.5)
