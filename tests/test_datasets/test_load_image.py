"""Datasets load images as the inferencer reads them, and plain files as mmcv does, bit for bit."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS, DefaultScope
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.datasets.transforms.load_image import LoadImageNamingFile, register_image_loader
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
@pytest.mark.parametrize('name', ['a.avif', 'a.heic'])
def test_formats_of_phones(tmp_path, name, backend):
    """They were "truncated or not an image" in a dataset, and right in the inferencer."""
    smooth = np.stack([GREY, GREY[:, ::-1], np.full_like(GREY, 90)], -1)
    Image.fromarray(smooth).save(tmp_path / name, quality=95)
    loaded = load(tmp_path / name, backend)['img'][..., ::-1]
    assert np.array_equal(loaded, read_image(tmp_path / name)) and loaded.shape == (16, 24, 3)
    assert np.abs(loaded.astype(int) - smooth).mean() < 6


@pytest.mark.parametrize('kind', ['LoadImageFromFile', 'mmseg.LoadImageFromFile', 'mmcv.LoadImageFromFile'])
def test_every_scope_has_this_loader(tmp_path, kind):
    register_all_modules(init_default_scope=False)
    register_image_loader()
    with DefaultScope.overwrite_default_scope('mmseg'):
        transform = TRANSFORMS.build(dict(type=kind))
    path = tmp_path / 'grey16.png'
    Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    assert np.array_equal(transform(dict(img_path=str(path)))['img'][..., 0], GREY)


def test_12_bits_stored_in_16(tmp_path):
    """The rule of all 16-bit files: divided by 257. check_dataset.py names such files."""
    values = (GREY.astype(np.uint16) * 16)[:4]
    Image.fromarray(values).save(tmp_path / 'dark.png')
    assert np.array_equal(load(tmp_path / 'dark.png', 'pillow')['img'][..., 0], values // 257)
    Image.fromarray(values * 16).save(tmp_path / 'scaled.png')
    assert np.abs(load(tmp_path / 'scaled.png', 'pillow')['img'][..., 0].astype(int) - GREY[:4]).max() <= 1


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
