"""check_dataset.py reports every problem that a test plants in a dataset."""

import json
from pathlib import Path

import numpy as np
import pytest
from miniatures import coco_stuff
from PIL import ExifTags, Image
from python_runs import run_python

from mmzeg.datasets.coco_numbering import CLASSES, COMMON_CLASSES, RARE_CLASSES, find_numbering_problems

ROOT = Path(__file__).parents[2]
CONFIG = """
seen_classes, unseen_classes = ['road', 'sky', 'lamp'], ['dog']
dataset = dict(type='mmzeg.FolderDataset', data_root={root!r}, labels=['road', 'sky', 'dog', 'lamp'])
train_dataloader = dict(dataset=dict(
    dataset, metainfo=dict(classes={train}), data_prefix=dict(img_path='images/train', seg_map_path='labels/train')))
val_dataloader = dict(dataset=dict(
    dataset, metainfo=dict(classes=[*seen_classes, *unseen_classes], unseen_classes=unseen_classes),
    data_prefix=dict(img_path='images/val', seg_map_path='labels/val')))
"""


def write_sample(root, split, name, labels, size=(12, 8)):
    for folder in ('images', 'labels'):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(name.encode())).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / f'images/{split}/{name}.jpg')
    Image.fromarray(labels).save(root / f'labels/{split}/{name}.png')


@pytest.fixture
def tree(tmp_path):
    labels = np.zeros((8, 12), np.uint8)
    labels[:, 6:] = 1
    labels[0, 0] = 2
    labels[0, 1] = 255
    for split in ('train', 'val'):
        for number in range(3):
            write_sample(tmp_path, split, f'{split}_{number}', labels)
    return tmp_path


def check(root, *options, train='seen_classes'):
    (root / 'config.py').write_text(CONFIG.format(root=str(root), train=train))
    command = [str(ROOT / 'tools/analysis_tools/check_dataset.py'), str(root / 'config.py'), *options]
    return run_python(command)


def test_counts_of_classes(tree):
    result = check(tree, '--json', str(tree / 'new/report.json'))
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tree / 'new/report.json').read_text())
    assert [(row['name'], row['images'], row['pixels']) for row in report['classes']] == [
        ('road', 3, 3 * 46),
        ('sky', 3, 3 * 48),
        ('lamp', 0, 0),
    ]
    assert report['warnings'] == ["class 'lamp' has no pixel"] and not report['wrong']
    report = check(tree, '--split', 'val').stdout
    assert '| dog   | unseen |      3 |      3 |' in report and 'wrong' not in report


def test_size_of_a_rotated_image_is_that_of_training(tree):
    path = tree / 'images/train/train_0.jpg'
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(path).rotate(90, expand=True).save(path, exif=exif)
    result = check(tree)
    assert result.returncode == 0, result.stdout + result.stderr


def test_images_whose_label_maps_may_not_fit(tree):
    """A mirrored photo, a photo whose label map has the stored size, and 12 bits stored in 16."""
    exif = Image.Exif()
    for name, orientation in (('train_0', 2), ('train_1', 6)):
        path = tree / f'images/train/{name}.jpg'
        exif[ExifTags.Base.Orientation] = orientation
        Image.open(path).save(path, exif=exif)
    # check_dataset.py reads formats by their content.
    path = tree / 'images/train/train_2.jpg'
    Image.fromarray(np.full((8, 12), 4095, np.uint16)).save(path, format='PNG')
    result = check(tree, '--json', str(tree / 'report.json'))
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith(('warning: ', 'wrong: '))]
    expected = [
        'train_2.jpg: not 8 bits of RGB or grey',
        'train_2.jpg: grey of 16 bits without a value above 4095, the first of 1 such images',
        'train_0.jpg: its EXIF orientation mirrors or turns it',
        "class 'lamp' has no pixel",
        'train_1.png: 12 x 8 pixels, but its image has 8 x 12: the label map has the size of the stored pixels',
    ]
    assert len(lines) == len(expected), lines
    for line, message in zip(lines, expected, strict=True):
        assert message in line
    doubtful = json.loads((tree / 'report.json').read_text())['doubtful']
    assert {key: [Path(path).name for path in paths] for key, paths in doubtful.items()} == dict(
        converted=['train_2.jpg'], dark=['train_2.jpg'], turned=['train_0.jpg']
    )


def test_planted_problems(tree):
    background = np.zeros((8, 12), np.uint8)
    for name in ('truncated_image', 'truncated_labels', 'no_labels', 'no_image'):
        write_sample(tree, 'train', name, background)
    write_sample(tree, 'train', 'unknown_value', np.full((8, 12), 9, np.uint8))
    write_sample(tree, 'train', 'rgb', np.zeros((8, 12, 3), np.uint8))
    write_sample(tree, 'train', 'small', background[:4])
    write_sample(tree, 'train', 'void', background + 255)
    images, labels = tree / 'images/train', tree / 'labels/train'
    for path in (images / 'truncated_image.jpg', labels / 'truncated_labels.png'):
        path.write_bytes(path.read_bytes()[:-40])
    (labels / 'no_labels.png').unlink()
    (images / 'no_image.jpg').unlink()
    (tree / 'images/val/val_2.jpg').write_bytes((images / 'train_0.jpg').read_bytes())
    (images / 'train_2.jpg').write_bytes((images / 'train_1.jpg').read_bytes())
    result = check(tree, train='[*seen_classes, *unseen_classes]')
    assert result.returncode == 1, result.stderr
    expected = {
        'wrong': [
            "1 unseen classes reach the loss, 'dog' first",
            'no_image.png: a label map without an image',
            'truncated_image.jpg: truncated or not an image',
            'truncated_labels.png: truncated or not an image',
            'no_labels.jpg: no label map',
            'unknown_value.png: value 9 is none of the 4 classes',
            'rgb.png: a label map has one value per pixel',
            'small.png: 12 x 4 pixels, but its image has 12 x 8: give both the same size',
            'val_2.jpg: the same file as',
        ],
        'warning': ['void.jpg: no labelled pixel', 'train_2.jpg: the same file as', "class 'lamp' has no pixel"],
    }
    for kind, messages in expected.items():
        lines = [line for line in result.stdout.splitlines() if line.startswith(f'{kind}: ')]
        assert len(lines) == len(messages), lines
        for message in messages:
            assert any(message in line for line in lines), message


def test_missing_folder(tree):
    for path in (tree / 'labels/train').iterdir():
        path.unlink()
    (tree / 'labels/train').rmdir()
    result = check(tree)
    assert result.returncode == 2 and "labels/train' is no folder" in result.stderr


def check_coco(root, change_labels):
    """Run check_dataset.py on a miniature of COCO-Stuff with changed label maps."""
    coco_stuff(root)
    for path in (root / 'annotations').rglob('*_labelTrainIds.png'):
        labels = change_labels(np.asarray(Image.open(path)))
        Image.fromarray(labels.astype(np.uint8)).save(path)
    command = [str(ROOT / 'tools/analysis_tools/check_dataset.py'), 'configs/zegformer_r50_coco.py']
    fields = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val')]
    return run_python([*command, '--cfg-options', *fields], ROOT)


def test_raw_stuffthingmaps_are_reported(tmp_path):
    result = check_coco(tmp_path / 'right', lambda labels: labels)
    assert result.returncode == 0 and 'COCO-Stuff' not in result.stdout, result.stdout + result.stderr
    gaps = [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
    raw = np.array([value for value in range(182) if value not in gaps] + [255] * 85)
    result = check_coco(tmp_path / 'raw', lambda labels: raw[labels])
    assert result.returncode == 1
    assert 'wrong: COCO-Stuff: value 171 is of raw stuffthingmaps' in result.stdout, result.stdout


def test_other_orders_of_coco_stuff_are_reported():
    split = json.loads((ROOT / 'mmzeg/datasets/splits/coco_stuff_156_15.json').read_text())
    assert set(split['seen'] + split['unseen']) == set(CLASSES)
    # Common classes are in many images, rare ones in few, all others between.
    extremes = dict.fromkeys(COMMON_CLASSES, 30000) | dict.fromkeys(RARE_CLASSES, 200)
    num_images = [extremes.get(name, 1000 + 29 * index) for index, name in enumerate(CLASSES)]
    assert find_numbering_problems(dict(enumerate(num_images)) | {255: 9}, 118287) == []
    seen_first = [num_images[CLASSES.index(name)] for name in (*split['seen'], *split['unseen'])]
    (problem,) = find_numbering_problems(dict(enumerate(seen_first)), 118287)
    assert 'numbered in another order' in problem and "'hair drier'" in problem
    (problem,) = find_numbering_problems(dict(enumerate(seen_first[:156])), 118287)
    assert 'none of 118287 label maps has a value above 155' in problem
    # A few files are not enough to decide.
    assert find_numbering_problems(dict(enumerate(seen_first[:156])), 500) == []
    assert find_numbering_problems({255: 3}, 118287) == []
