"""Label maps of 8 and 16 bits are loaded exactly, or refused."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import ExifTags, Image, ImageOps

from mmzeg.registry import DATASETS, TRANSFORMS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


def load(path, **fields):
    results = dict(seg_map_path=str(path), img_path='street.jpg', seg_fields=[], reduce_zero_label=False) | fields
    return TRANSFORMS.build(dict(type='mmzeg.LoadLabels'))(results)['gt_seg_map']


def save(labels, path, mode=None):
    Image.fromarray(labels, mode).save(path)
    return path


def test_ade_full_through_the_complete_pipeline(tmp_path):
    """All 847 values and 65535, through the config's own training and test pipelines."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r50_ade-full.py')
    values = np.append(np.arange(847), 65535).astype(np.uint16)
    labels = np.resize(np.repeat(values, 360), (512, 600))
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new('RGB', (600, 512)).save(tmp_path / f'images/{split}/a.jpg')
        save(labels, tmp_path / f'annotations/{split}/a.png')
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    train.data_root = test.data_root = str(tmp_path)

    loaded = DATASETS.build(test)[0]['data_samples'].gt_sem_seg.data[0].numpy()
    assert np.array_equal(loaded, labels) and set(np.unique(loaded)) == set(range(847)) | {65535}

    # Seen classes come first and keep their values; all other values are ignored.
    expected = np.where(labels < 572, labels, 65535)
    (resize,) = (transform for transform in train.pipeline if transform.type == 'RandomChoiceResize')
    resize.scales = [512]
    loaded = DATASETS.build(train)[0]['data_samples'].gt_sem_seg.data[0].numpy()
    crops = [flip[:, left : left + 512] for flip in (expected, expected[:, ::-1]) for left in range(89)]
    assert loaded.shape == (512, 512) and any(np.array_equal(loaded, crop) for crop in crops)
    # An image smaller than the crop is padded with the ignored value; no other value appears.
    resize.scales = [256]
    loaded = DATASETS.build(train)[0]['data_samples'].gt_sem_seg.data[0].numpy()
    assert (loaded[256:] == 65535).all() and set(np.unique(loaded)) <= set(np.unique(expected))


@pytest.mark.parametrize('kind', ['grey', 'palette'])
def test_grey_and_palette_give_the_same_labels(tmp_path, kind):
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(labels)
    if kind == 'palette':
        image = Image.fromarray(labels, 'P')
        image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / 'a.png')
    loaded = load(tmp_path / 'a.png', label_map={0: 255, 1: 0, 2: 1})
    assert loaded.tolist() == [[255, 0], [1, 255]] and loaded.dtype == np.uint8


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'I;16', 'I'])
def test_label_maps_of_1_to_32_bits(tmp_path, mode):
    labels = np.array([[0, 1], [1, 0]])
    dtype = {'1': bool, 'I;16': np.uint16, 'I': np.int32}.get(mode, np.uint8)
    image = Image.fromarray(labels.astype(dtype))
    if mode == 'P':
        image = image.convert('P')
    # PNG has no 32 bits.
    path = tmp_path / ('a.tif' if mode == 'I' else 'a.png')
    image.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    assert load(path).tolist() == labels.tolist()


@pytest.mark.parametrize('fields', [{}, dict(reduce_zero_label=True), dict(label_map={0: 1, 1: 255, 2: 0, 3: 2})])
def test_same_as_mmsegs_transform_for_valid_labels(tmp_path, fields):
    path = save(np.array([[0, 1, 2], [3, 2, 255]], np.uint8), tmp_path / 'a.png')
    results = dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False, label_map=None) | fields
    assert np.array_equal(load(path, **fields), TRANSFORMS.build(dict(type='LoadAnnotations'))(results)['gt_seg_map'])


@pytest.mark.parametrize(
    'labels, fields, message',
    [
        (np.zeros((2, 2, 3), np.uint8), {}, 'one value per pixel, but the mode of this file is RGB'),
        (np.zeros((4, 5), np.uint8), dict(ori_shape=(4, 6)), 'is 5 x 4 pixels but its image street.jpg is 6 x 4'),
        (np.full((2, 2), 7, np.uint8), dict(label_map={0: 0}), 'value 7 is no class'),
        (np.full((2, 2), 7, np.uint8), dict(ignore_index=65535), '8 bits in a dataset of 16'),
    ],
)
def test_invalid_label_maps_are_refused(tmp_path, labels, fields, message):
    with pytest.raises(ValueError, match=f'a.png.*{message}'):
        load(save(labels, tmp_path / 'a.png'), **fields)


@pytest.mark.parametrize('suffix, fields', [('.jpg', {}), ('.tif', dict(compression='jpeg')), ('.jp2', {})])
def test_lossy_label_maps_are_refused(tmp_path, suffix, fields):
    """They were read, with values that compression had changed: 3 next to 200 became 0 to 7, which may be classes."""
    labels = np.repeat(np.array([[3, 200]], np.uint8), 8, axis=0)
    Image.fromarray(labels).save(tmp_path / f'a{suffix}', **fields)
    with pytest.raises(ValueError, match=f'a{suffix}: a lossy format, .* make the label map again as a PNG'):
        load(tmp_path / f'a{suffix}')


def test_truncated_file_is_refused(tmp_path):
    path = save(np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint8), tmp_path / 'a.png')
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match='a.png: truncated or not an image'):
        load(path)
    path.write_text('text')
    with pytest.raises(ValueError, match='a.png: truncated or not an image'):
        load(path)


def test_numpy_files_are_named(tmp_path):
    """The message was "truncated or not an image", with the address of a buffer."""
    np.save(tmp_path / 'a.npy', np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match='a.npy: a NumPy file: write it as a PNG, as by PIL.Image.fromarray'):
        load(tmp_path / 'a.npy')
    (tmp_path / 'a.png').write_text('no image')
    with pytest.raises(ValueError, match='a.png: truncated or not an image; make or download it again$'):
        load(tmp_path / 'a.png')


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_label_maps_of_the_stored_pixels(tmp_path, orientation):
    """A photo whose EXIF orientation turns it, and a label map that was drawn on the stored pixels."""
    photo = Image.new('RGB', (12, 8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo.save(tmp_path / 'a.jpg', exif=exif)
    labels = np.arange(96, dtype=np.uint8).reshape(8, 12)
    path = save(labels, tmp_path / 'a.png')
    fields = dict(img_path=str(tmp_path / 'a.jpg'), ori_shape=(12, 8))
    with pytest.raises(ValueError, match='12 x 8 pixels but .*a.jpg is 8 x 12: .* size of the stored pixels, .* turn'):
        load(path, **fields)
    # Turned in the same way it is loaded.
    turned = ImageOps.exif_transpose(Image.open(save_with_exif(labels, tmp_path / 'turned.png', exif)))
    assert np.array_equal(load(save(np.asarray(turned), path), **fields), np.asarray(turned))
    # Another size has another remedy.
    with pytest.raises(ValueError, match='give both the same size'):
        load(save(labels[:4], path), **fields)


def save_with_exif(labels, path, exif):
    Image.fromarray(labels).save(path, exif=exif)
    return path
