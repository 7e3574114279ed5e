"""Pixels of a label map that are ignored: those of a low margin, and those of small regions; and statistics."""

from collections.abc import Sequence

import cv2
import numpy as np


def ignore_uncertain_pixels(labels: np.ndarray, margins: np.ndarray, ignore_below: float, ignore_index: int) -> None:
    """Ignore the pixels of a label map whose margin is lower than a bound.

    Args:
        labels (np.ndarray): (H, W) class indices; changed in place.
        margins (np.ndarray): (H, W) in [0, 1].
        ignore_below (float): The bound, in [0, 1].
        ignore_index (int): The value that these pixels get.
    """
    labels[margins < ignore_below] = ignore_index


def ignore_small_regions(labels: np.ndarray, min_area: int, ignore_index: int) -> None:
    """Ignore the pixels of small regions: connected pixels of one class, where a pixel has eight neighbours.

    Args:
        labels (np.ndarray): (H, W) class indices; changed in place. Pixels that are ignored already separate regions.
        min_area (int): Regions with fewer pixels are ignored.
        ignore_index (int): The value that these pixels get.
    """
    if min_area <= 1:
        return
    for label in np.unique(labels):
        if label == ignore_index:
            continue
        mask = (labels == label).astype(np.uint8)
        _, regions, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        is_small = statistics[:, cv2.CC_STAT_AREA] < min_area
        # Region 0 is everything else.
        is_small[0] = False
        labels[is_small[regions]] = ignore_index


def label_statistics(labels: np.ndarray, margins: np.ndarray, names: Sequence[str], ignore_index: int) -> dict:
    """Return what a manifest says of a label map.

    Args:
        labels (np.ndarray): (H, W) class indices, or ``ignore_index``.
        margins (np.ndarray): (H, W) in [0, 1].
        names (Sequence[str]): Class names.
        ignore_index (int): Value of ignored pixels.

    Returns:
        dict: ``pixels``, class -> number, of classes that have one; ``ignored`` pixels; ``margins``, class -> mean
        margin of its pixels; ``mean_score``, the mean margin of all pixels, ignored ones too.
    """
    is_labelled = labels != ignore_index
    labelled = labels[is_labelled]
    counts = np.bincount(labelled, minlength=len(names))
    sums = np.bincount(labelled, weights=margins[is_labelled], minlength=len(names))
    present = np.flatnonzero(counts)
    return dict(
        pixels={names[label]: int(counts[label]) for label in present},
        ignored=int(labels.size - labelled.size),
        margins={names[label]: round(float(sums[label] / counts[label]), 6) for label in present},
        mean_score=round(float(margins.mean(dtype=np.float64)), 6),
    )
