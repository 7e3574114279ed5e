"""Label maps of a test keep the subfolders of their images."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmzeg.evaluation import LabelMapWriter


def sample(path, value, **fields):
    return dict(img_path=str(path), pred_sem_seg=dict(data=torch.full((1, 2, 3), value)), **fields)


def test_images_of_subfolders_keep_their_label_maps(tmp_path):
    """mmseg's metric names files by stem: of four images in two folders two label maps were left, in silence."""
    writer = LabelMapWriter(str(tmp_path / 'out'), [str(tmp_path / 'images')])
    names = ['seq0/0000', 'seq0/0001', 'seq1/0000', 'seq1/0001']
    writer.process(None, [sample(tmp_path / f'images/{name}.jpg', value) for value, name in enumerate(names)])
    for value, name in enumerate(names):
        image = Image.open(tmp_path / f'out/{name}.png')
        assert image.mode == 'L' and (np.asarray(image) == value).all() and image.size == (3, 2)
    assert writer.evaluate(4) == {}


def test_values_and_names(tmp_path):
    writer = LabelMapWriter(str(tmp_path), ['images'])
    writer.process(None, [sample('images/a.jpg', 4, reduce_zero_label=True), sample('images/b.jpg', 4)])
    assert [np.asarray(Image.open(tmp_path / f'{name}.png'))[0, 0] for name in 'ab'] == [5, 4]
    writer.process(None, [sample('images/b.jpg', 4)])
    with pytest.raises(ValueError, match='images/b.png: its label map would replace that of images/b.jpg'):
        writer.process(None, [sample('images/b.png', 4)])
    with pytest.raises(ValueError, match='c.png: class index 256 does not fit'):
        writer.process(None, [sample('images/c.png', 256)])
