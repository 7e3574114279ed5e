"""Datasets load images as the inferencer reads them, and plain files as mmcv does, bit for bit."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmzeg.datasets.transforms.load_image import LoadImageNamingFile
from mmzeg.utils.image_decoding import read_image

GREY = np.tile(np.linspace(0, 255, 24).round().astype(np.uint8), (16, 1))
NOISE = np.random.default_rng(0).integers(0, 255, (16, 24, 4), dtype=np.uint8)


def load(path, backend, transform=LoadImageNamingFile):
    return transform(imdecode_backend=backend)(dict(img_path=str(path)))


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize(
    'name, image',
    [
        # All white with the pillow backend.
        ('grey16.png', Image.fromarray(GREY.astype(np.uint16) * 257)),
        ('grey16.tif', Image.fromarray(GREY.astype(np.uint16) * 257)),
        # The colours below transparent pixels.
        ('transparent.png', Image.fromarray(NOISE, 'RGBA')),
        ('transparent_grey.png', Image.fromarray(NOISE, 'RGBA').convert('LA')),
        # "Truncated or not an image" with OpenCV.
        ('animation.gif', Image.fromarray(GREY)),
    ],
)
def test_datasets_and_inferencer_read_alike(tmp_path, name, image, backend):
    """Training and test saw other pixels than the inferencer, without a word."""
    image.save(tmp_path / name)
    sample = load(tmp_path / name, backend)
    assert np.array_equal(sample['img'][..., ::-1], read_image(tmp_path / name))
    assert sample['ori_shape'] == sample['img_shape'] == (16, 24)
    if 'transparent' not in name:
        assert np.abs(sample['img'].astype(int) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize(
    'name, mode', [('a.jpg', 'RGB'), ('a.jpg', 'CMYK'), ('a.png', 'RGB'), ('a.png', 'L'), ('a.png', 'P')]
)
def test_plain_files_are_decoded_by_mmcv(tmp_path, name, mode, backend):
    Image.fromarray(NOISE[..., :3]).convert(mode).save(tmp_path / name)
    expected = load(tmp_path / name, backend, LoadImageFromFile)
    loaded = load(tmp_path / name, backend)
    assert np.array_equal(loaded.pop('img'), expected.pop('img')) and loaded == expected


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize('content', [b'', b'text'])
def test_what_is_no_image_is_named(tmp_path, content, backend):
    (tmp_path / 'a.png').write_bytes(content)
    with pytest.raises(ValueError, match='a.png: truncated or not an image'):
        load(tmp_path / 'a.png', backend)


def test_floats_and_missing_files_are_named(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match='a.tif: cannot be read .32-bit floating point: convert it'):
        load(tmp_path / 'a.tif', 'pillow')
    with pytest.raises(FileNotFoundError, match='gone.png'):
        load(tmp_path / 'gone.png', 'pillow')
