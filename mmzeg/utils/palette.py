"""Colours of classes in drawings."""

import colorsys
from collections.abc import Sequence

import numpy as np


def palette(num_classes: int) -> np.ndarray:
    """Return (num_classes, 3) uint8 RGB colours: neighbours differ in hue, equal hues in brightness."""
    hues = (np.arange(num_classes) * 0.618034) % 1
    colours = []
    for index, hue in enumerate(hues):
        saturation = (0.85, 0.55)[index % 2]
        brightness = (1.0, 0.75)[index // 2 % 2]
        colours.append(colorsys.hsv_to_rgb(hue, saturation, brightness))
    return (255 * np.array(colours)).round().astype(np.uint8)


def further_colours(colours: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Return RGB colours that differ from the given ones and from each other, as much as those of ``palette`` can.

    Args:
        colours (Sequence): RGB colours in 0..255 that are in use.
        count (int): How many more are needed.
    """
    candidates = palette(2 * (len(colours) + count)).astype(int)
    distances = np.full(len(candidates), np.inf)
    for colour in colours:
        distances = np.minimum(distances, np.abs(candidates - colour).sum(1))
    further = []
    for _ in range(count):
        # The candidate that differs most from every colour in use.
        colour = candidates[distances.argmax()]
        further.append(colour.tolist())
        distances = np.minimum(distances, np.abs(candidates - colour).sum(1))
    return further
