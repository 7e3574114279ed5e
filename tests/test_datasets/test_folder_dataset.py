"""A custom dataset: folders, and a list of classes."""

import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.datasets.folder_dataset import unmatched_message
from mmzeg.registry import DATASETS
from mmzeg.utils.preflight import check_config

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')]


@pytest.fixture
def folder(tmp_path):
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    for subfolder in ('img', 'ann'):
        (tmp_path / subfolder).mkdir()
    Image.new('RGB', (3, 1)).save(tmp_path / 'img/a.jpg')
    Image.fromarray(np.array([[10, 20, 0]], np.uint8)).save(tmp_path / 'ann/a.png')
    return tmp_path


def build(folder, **fields):
    fields = dict(labels=dict(road=10, sky=20), void=[0], pipeline=PIPELINE) | fields
    prefix = dict(img_path='img', seg_map_path='ann')
    return DATASETS.build(dict(type='mmzeg.FolderDataset', data_root=str(folder), data_prefix=prefix, **fields))


def loaded_values(dataset):
    return dataset[0]['data_samples'].gt_sem_seg.data[0, 0].tolist()


def test_values_become_class_indices(folder):
    assert loaded_values(build(folder)) == [0, 1, 255]
    assert loaded_values(build(folder, metainfo=dict(classes=['sky']))) == [255, 0, 255]
    Image.fromarray(np.array([[10, 20, 0]], np.uint16)).save(folder / 'ann/a.png')
    dataset = build(folder, metainfo=dict(classes=['sky', 'road'], unseen_classes=['road']), ignore_index=65535)
    assert loaded_values(dataset) == [1, 0, 65535] and dataset.metainfo['unseen_classes'] == ['road']


def test_labels_as_pairs(folder):
    """MMEngine can print pairs whose class name has an apostrophe, but no such key."""
    labels = [("driver's road", 10), ('sky', 20)]
    dataset = build(folder, labels=labels)
    assert loaded_values(dataset) == [0, 1, 255] and dataset.metainfo['classes'] == ["driver's road", 'sky']
    assert "driver's road" in Config(dict(labels=labels)).pretty_text


def test_class_name_with_apostrophe_as_key_is_refused():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(labels={"driver's road": 10, 'sky': 20}))))
    with pytest.raises(ValueError, match=r'"driver\'s road": MMEngine cannot print .* give labels as pairs'):
        check_config(cfg, ())


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(labels=['road', 'sky', 'road']), "'road' is listed twice"),
        (dict(labels=dict(road=1, sky=1)), "'road' and 'sky' both have the value 1"),
        (dict(void=[10]), 'value 10 is both a class and void'),
        # These lost a class, or shifted all classes by one: training ran, and the mIoU was 100.0.
        (dict(labels=dict(background=0, road=255), void=[]), "'road' has the value 255 in labels, .* ignore_index"),
        (dict(labels=dict(sky=0, road=9), void=[], ignore_index=9), "'road' has the value 9 in labels"),
        (dict(reduce_zero_label=True), 'reduce_zero_label=True shifts every value of labels by one'),
        # These were tracebacks.
        (dict(labels=dict(road='10')), "class 'road' in labels: the value '10' is no integer"),
        (dict(labels=dict(road=10.0)), "class 'road' in labels: the value 10.0 is no integer"),
        (dict(labels=['sky', ('road', 10)]), "labels has 'sky' among pairs"),
        (dict(void=['0']), "void: the value '0' is no integer"),
        (dict(metainfo=dict(classes=['tree'])), "'tree' of metainfo is not among labels"),
        (dict(labels=[str(number) for number in range(300)], void=[]), '300 classes and ignore_index=255'),
        (dict(img_suffix='.png'), "no image here ends with '.png'; 1 images end otherwise, such as .*a.jpg"),
        # These were a misleading line and a traceback.
        (dict(img_suffix=[]), "give a suffix such as '.jpg', or a list"),
        (dict(img_suffix=7), "give a suffix such as '.jpg', or a list"),
        (dict(seg_map_suffix='_labels.png'), 'a.jpg: no label map; .*a_labels.png does not exist'),
    ],
)
def test_bad_fields(folder, fields, message):
    with pytest.raises(ValueError, match=message):
        build(folder, **fields)


def test_several_suffixes(folder):
    """Half of the images were left out in silence; a list of suffixes was a traceback."""
    for name in ('b.JPG', 'c.png', '._a.jpg'):
        (folder / f'img/{name}').write_bytes((folder / 'img/a.jpg').read_bytes())
    for name in 'bc':
        (folder / f'ann/{name}.png').write_bytes((folder / 'ann/a.png').read_bytes())
    (folder / 'img/notes.txt').touch()
    names = [
        Path(build(folder, img_suffix=['.jpg', '.png'])[index]['data_samples'].img_path).name for index in range(3)
    ]
    assert names == ['a.jpg', 'b.JPG', 'c.png']

    # Images of other suffixes are counted and named; check_dataset.py reports them.
    dataset = build(folder, lazy_init=True)
    samples, unmatched = dataset.list_samples()
    assert len(samples) == 2 and unmatched == [str(folder / 'img/c.png')]
    assert re.search(
        r"c.png: left out, the first of 1 images .* '.jpg': list all suffixes", unmatched_message(dataset, unmatched)
    )

    # Two images with one label map
    (folder / 'img/a.png').touch()
    with pytest.raises(ValueError, match='a.png: its label map .*a.png is also that of .*a.jpg'):
        build(folder, img_suffix=('.jpg', '.png'))


def test_list_of_images(folder):
    """A blank last line was "no label map; .png does not exist", a byte order mark a missing file."""
    (folder / 'img/a.jpg').rename(folder / 'img/a.JPG')
    (folder / 'train.txt').write_bytes(b'\xef\xbb\xbfa\r\n\r\n')
    dataset = build(folder, ann_file='train.txt', img_suffix=['.png', '.jpg'])
    assert [Path(sample['img_path']).name for sample in dataset.load_data_list()] == ['a.JPG']


def test_unknown_prefix(folder):
    prefix = dict(img_dir='img', seg_map_path='ann')
    with pytest.raises(ValueError, match="data_prefix has no field 'img_dir'"):
        DATASETS.build(dict(type='mmzeg.FolderDataset', labels=['road'], data_root=str(folder), data_prefix=prefix))


def test_missing_folder_or_list(folder):
    with pytest.raises(FileNotFoundError, match='val.txt: no such list of images'):
        build(folder, ann_file='val.txt')
    (folder / 'ann/a.png').unlink()
    (folder / 'ann').rmdir()
    with pytest.raises(FileNotFoundError, match='ann: no such folder'):
        build(folder)


@pytest.mark.parametrize(
    'labels, message',
    [
        # Text was a list of letters: "class 'road' of metainfo is not among labels".
        ('road', "labels='road': give a list of class names"),
        ('classes.txt', "labels='classes.txt': give a list of class names"),
        # These were tracebacks.
        (None, 'labels=None: give a list'),
        (2, 'labels=2: give a list'),
        ([5.0, 8.0], 'labels has 5.0 among pairs'),
        (dict(road=5.0), "class 'road' in labels: the value 5.0 is no integer"),
        (dict(road='5'), "class 'road' in labels: the value '5' is no integer"),
        ({5: 'road'}, "labels: 5 stands before 'road': give the class name first, then its value"),
    ],
)
def test_labels_of_other_forms(labels, message):
    with pytest.raises(ValueError, match=message):
        DATASETS.build(dict(type='mmzeg.FolderDataset', labels=labels, lazy_init=True))


@pytest.mark.parametrize('type_name', ['mmzeg.FolderDataset', 'mmzeg.CamVidDataset'])
def test_images_that_a_transform_cannot_process_are_named(folder, type_name):
    """The error was OpenCV's, which names no file."""
    path = folder / 'img/a.jpg'
    Image.new('RGB', (1500, 1)).save(path)
    Image.fromarray(np.full((1, 1500), 7, np.uint8)).save(folder / 'ann/a.png')
    resize = dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 2.0), keep_ratio=True)
    labels = dict(labels=dict(sky=7)) if type_name == 'mmzeg.FolderDataset' else {}
    dataset = DATASETS.build(
        dict(
            type=type_name,
            data_root=str(folder),
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), resize],
            **labels,
        )
    )
    with pytest.raises(
        ValueError, match=rf'^{path}: a transform .* cannot process this image \(OpenCV.* narrow'
    ) as raised:
        dataset[0]
    assert '\n' not in str(raised.value)
    # An error that names a file stays as it is.
    path.write_bytes(b'')
    with pytest.raises(ValueError, match=f'^{path}: truncated or not an image; make or download it again$'):
        dataset[0]
