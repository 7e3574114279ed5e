"""Colours of classes: all different, also from those that a dataset already has."""

import numpy as np
import pytest

from mmzeg.utils.palette import further_colours, palette


@pytest.mark.parametrize('num_classes', [2, 42, 300])
def test_colours_differ(num_classes):
    assert len(np.unique(palette(num_classes), axis=0)) == num_classes


@pytest.mark.parametrize('num_known', [0, 1, 34])
def test_further_colours_differ_from_the_known_ones(num_known):
    """The known ones are those that ``palette`` would give first."""
    known = palette(num_known).tolist() if num_known else []
    further = further_colours(known, 8)
    colours = np.array([*known, *further], int)
    distances = np.abs(colours[:, None] - colours).sum(-1) + 1000 * np.eye(len(colours), dtype=int)
    assert further == further_colours(known, 8)
    assert distances[num_known:].min() >= 60
