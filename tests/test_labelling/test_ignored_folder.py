"""A copy of a labelled folder in which uncertain pixels are ignored."""

import json

import numpy as np
import pytest
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.labelling.ignored_folder import ignore_pixels
from mmzeg.labelling.manifest import dump_rows
from mmzeg.labelling.uncertain_pixels import label_statistics

CLASSES = ['road', 'tree']


def label_map_of(number):
    labels = np.zeros((20, 30), np.uint8)
    labels[:, number % 30 :] = 1
    labels[:2] = 255
    return labels


@pytest.fixture
def labelled(tmp_path):
    """A folder of 30 label maps, whose margins rise from left to right."""
    margins = np.tile(np.linspace(0, 1, 30, dtype=np.float32), (20, 1))
    rows = []
    for number in range(30):
        labels = label_map_of(number)
        row = dict(file=f'a/{number:03d}.jpg', width=30, height=20, sha1='0')
        row |= label_statistics(labels, margins, CLASSES, 255) | dict(seconds=0.1, error=None)
        rows.append(row)
        for folder, content in (('annotations', indexed_png(labels, 2, 255)), ('scores', None)):
            path = tmp_path / f'labels/{folder}/a/{number:03d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                Image.fromarray(np.rint(255 * margins).astype(np.uint8)).save(path)
            else:
                path.write_bytes(content)
    rows.append(rows[0] | dict(file='a/bad.jpg', width=None, height=None, pixels={}, error='truncated'))
    (tmp_path / 'labels/manifest.jsonl').write_bytes(dump_rows(rows))
    description = dict(classes=CLASSES, seen=[], ignore_index=255, images=str(tmp_path))
    (tmp_path / 'labels/classes.json').write_text(json.dumps(description))
    return tmp_path / 'labels'


def test_pixels_of_a_low_margin_are_ignored(labelled, tmp_path):
    rows = ignore_pixels(labelled, tmp_path / 'certain', 0.5)
    assert len(rows) == 30
    for number, row in enumerate(rows):
        expected = label_map_of(number)
        expected[:, :15] = 255
        label_map = np.asarray(Image.open(tmp_path / f'certain/annotations/a/{number:03d}.png'))
        assert np.array_equal(label_map, expected)
        assert row['ignored'] == (expected == 255).sum()
        assert row['pixels'] == {name: (expected == k).sum() for k, name in enumerate(CLASSES) if (expected == k).any()}
    assert (tmp_path / 'certain/train_segformer.py').is_file()
    assert (tmp_path / 'certain/classes.json').read_text() == (labelled / 'classes.json').read_text()


def test_bound_zero_copies_the_label_maps(labelled, tmp_path):
    rows = ignore_pixels(labelled, tmp_path / 'copy', 0.0)
    assert {row['ignored'] for row in rows} == {60}
    for number in range(30):
        name = f'annotations/a/{number:03d}.png'
        assert (tmp_path / 'copy' / name).read_bytes() == (labelled / name).read_bytes()


def test_a_bound_that_leaves_no_pixel_is_refused(labelled, tmp_path):
    with pytest.raises(ValueError, match='none of the 0 labelled images is in the train split'):
        ignore_pixels(labelled, tmp_path / 'none', 1.1)
