"""A labelled folder for the tests of the review sheet."""

import numpy as np
import pytest
from labelled_folders import BLUE, RED, error_row, label_image, two_halves, write_settings


@pytest.fixture
def labelled(tmp_path):
    """Thirty images, left half red and of class 0, right half blue and of class 1 or 2; class 3 has no pixel."""
    names = ['road', 'sky', 'sea', 'zebra']
    write_settings(tmp_path / 'out', names, ['road', 'sky'])
    rows = []
    for index in range(30):
        labels = two_halves(0, 1 + index % 2)
        image = np.where((labels == 0)[..., None], RED, BLUE).astype(np.uint8)
        file = f'part {index % 3}/{index:03}.jpg'
        margins = dict(road=index / 100, sky=0.5 + index / 100, sea=0.9 - index / 100)
        rows.append(label_image(tmp_path, file, image, labels, names, margins))
    rows.append(error_row('part 1/bad.jpg', 'truncated or not an image <b>'))
    return tmp_path, rows
