"""The student: its configs for a labelled folder, its training and test, and mmseg running it without mmzeg."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from miniature_runs import ROOT, loaders, run
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.labelling.student import is_validation_image, student_side, write_student_configs
from mmzeg.utils.preflight import check_config

WIDTH, HEIGHT = 100, 66
CLASSES = ['road', 'tree', 'car, automobile']
STUDENTS = ('segformer', 'fast_scnn')
# Segments the images of argv[3] by mmseg alone, and saves the label maps.
MMSEG_ALONE = """
import sys
import numpy as np
sys.modules['mmzeg'] = None
from mmseg.apis import MMSegInferencer
from PIL import Image
config, weights, image, path = sys.argv[1:]
inferencer = MMSegInferencer(config, weights, device='cpu')
label_map = inferencer(image, show=False)['predictions']
Image.fromarray(label_map.astype(np.uint8)).save(path)
print(list(inferencer.model.dataset_meta['classes']))
assert not [name for name in sys.modules if name.startswith('mmzeg.')]
"""


def write_labelled_folder(root, num_images=30, classes=CLASSES, ignore_index=255):
    """Write a folder of images, and label maps, classes.json and rows as tools/label.py makes them."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_images):
        file = f'seq{number % 2}/{number:03d}.{("jpg", "PNG")[number % 3 == 0]}'
        # The left half is one class, the right another; the lowest rows have none.
        labels = np.full((HEIGHT, WIDTH), ignore_index)
        labels[: HEIGHT - 6, : WIDTH // 2] = number % len(classes)
        labels[: HEIGHT - 6, WIDTH // 2 :] = len(classes) - 1
        image = (
            np.stack([labels * 80, labels * 40, labels * 20], -1) % 256 + rng.integers(0, 30, (HEIGHT, WIDTH, 3))
        ) % 256
        (root / 'images' / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(root / 'images' / file)
        path = (root / 'out/annotations' / file).with_suffix('.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(indexed_png(labels, len(classes), ignore_index))
        pixels = {name: int((labels == value).sum()) for value, name in enumerate(classes)}
        rows.append(dict(file=file, width=WIDTH, height=HEIGHT, pixels=pixels, error=None))
    description = dict(classes=list(classes), seen=[], ignore_index=ignore_index, images=str(root / 'images'))
    (root / 'out/classes.json').write_text(json.dumps(description))
    return rows


@pytest.fixture(scope='module')
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp('labelled')
    write_student_configs(root / 'out', write_labelled_folder(root))
    return root


def split_of(out, name):
    return (out / f'splits/{name}.txt').read_text().splitlines()


def test_splits_are_stable_and_complete(tmp_path):
    rows = write_labelled_folder(tmp_path, 60)
    out = tmp_path / 'out'
    write_student_configs(out, rows[:40])
    train, val = split_of(out, 'train'), split_of(out, 'val')
    assert not {*train} & {*val}
    assert {*train, *val} == {row['file'].rpartition('.')[0] for row in rows[:40]}
    write_student_configs(out, rows)
    assert {*train} < {*split_of(out, 'train')} and {*val} <= {*split_of(out, 'val')}
    assert 0.09 < np.mean([is_validation_image(f'{number}.jpg') for number in range(10000)]) < 0.11


def test_images_that_cannot_be_used_are_left_out(tmp_path, caplog):
    rows = write_labelled_folder(tmp_path, 40)
    rows[0]['error'] = 'truncated'
    rows[1]['pixels'] = {}
    rows[2]['file'] = 'seq0/ 002 .jpg'
    rows[3]['file'] = 'seq1/\udce9.jpg'
    write_student_configs(tmp_path / 'out', rows)
    stems = split_of(tmp_path / 'out', 'train') + split_of(tmp_path / 'out', 'val')
    assert sorted(stems) == sorted(row['file'].rpartition('.')[0] for row in rows[4:])


@pytest.mark.parametrize('num_images, name', [(0, 'train'), (3, 'val')])
def test_an_empty_split_is_refused(tmp_path, num_images, name):
    rows = write_labelled_folder(tmp_path, max(num_images, 1))[:num_images]
    with pytest.raises(ValueError, match=f'none of the {num_images} labelled images is in the {name} split'):
        write_student_configs(tmp_path / 'out', rows)
    assert not (tmp_path / 'out/dataset.py').exists()


def test_one_label_map_of_two_images_is_refused(tmp_path):
    rows = write_labelled_folder(tmp_path, 20)
    rows.append(dict(rows[1], file=rows[1]['file'].replace('.jpg', '.webp')))
    with pytest.raises(ValueError, match=r'001\.jpg and seq1/001\.webp have the same label map'):
        write_student_configs(tmp_path / 'out', rows)


def test_a_class_with_the_ignored_value_is_refused(tmp_path):
    rows = write_labelled_folder(tmp_path, 20)
    path = tmp_path / 'out/classes.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(classes=[str(number) for number in range(256)])))
    with pytest.raises(ValueError, match='256 classes and ignore_index=255'):
        write_student_configs(tmp_path / 'out', rows)


@pytest.mark.parametrize(
    'sizes, side',
    [([(160, 160)], 160), ([(640, 480), (480, 640), (4000, 3000)], 480), ([(1280, 720)], 512), ([(50, 90)], 64)],
)
def test_side_follows_from_the_sizes_of_the_images(sizes, side):
    assert student_side(sizes) == side


def build(cfg, split):
    """Build the dataset of a split, as mmseg does."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


@pytest.mark.parametrize('num_classes, ignore_index', [(3, 255), (255, 255), (300, 65535)])
@pytest.mark.parametrize('student', STUDENTS)
def test_values_of_the_label_maps_are_loaded(tmp_path, student, num_classes, ignore_index):
    """Of 8 bits and of 16; the ignored value is the same in all fields that hold it."""
    classes = [f"class {number}'s" for number in range(num_classes)]
    write_student_configs(tmp_path / 'out', write_labelled_folder(tmp_path, 20, classes, ignore_index))
    cfg = Config.fromfile(tmp_path / f'out/train_{student}.py')
    check_config(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'))
    heads = [cfg.model.decode_head, *cfg.model.get('auxiliary_head', [])]
    assert {head.ignore_index for head in heads} == {ignore_index} and {head.num_classes for head in heads} == {
        num_classes
    }
    assert cfg.model.data_preprocessor.seg_pad_val == cfg.test_evaluator.ignore_index == ignore_index
    assert cfg.train_pipeline[3].ignore_index == ignore_index and cfg.train_pipeline[3].type == 'RandomCrop'
    for split in ('train', 'val', 'test'):
        dataset = build(cfg, split)
        assert dataset.metainfo['classes'] == classes and len(dataset.metainfo['palette']) == num_classes
        for index in range(len(dataset)):
            values = set(dataset[index]['data_samples'].gt_sem_seg.data.unique().tolist())
            number = int(Path(dataset.get_data_info(index)['img_path']).stem)
            assert values <= {number % num_classes, num_classes - 1, ignore_index} and values != {ignore_index}
            if split != 'train':
                assert values == {number % num_classes, num_classes - 1, ignore_index}


def test_a_moved_folder_needs_one_line(labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / 'moved')
    config = tmp_path / 'moved/out/dataset.py'
    before = f'images = {str(labelled / "images")!r}\n'
    assert config.read_text().count(str(labelled)) == 1 and before in config.read_text()
    config.write_text(config.read_text().replace(before, f'images = {str(tmp_path / "moved/images")!r}\n'))
    dataset = build(Config.fromfile(tmp_path / 'moved/out/train_segformer.py'), 'train')
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        for path in (sample['img_path'], sample['seg_map_path']):
            assert Path(path).is_relative_to(tmp_path / 'moved') and Path(path).is_file()


@pytest.fixture(scope='module', params=STUDENTS)
def trained(request, labelled):
    """Train a student for two iterations by tools/train.py, and test it by tools/test.py."""
    config = labelled / f'out/train_{request.param}.py'
    options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2']
    log = run(
        'train.py', config, '--cfg-options', *options, 'default_hooks.logger.interval=1', *loaders('train', 'val')
    )
    checkpoint = labelled / f'out/{request.param}/iter_2.pth'
    assert checkpoint.is_file() and 'mIoU' in log.stdout
    out = labelled / f'predicted_{request.param}'
    drawings = labelled / f'drawings_{request.param}'
    arguments = (config, checkpoint, '--out', out, '--show-dir', drawings, '--cfg-options', *loaders('test'))
    tested = run('test.py', *arguments)
    assert len(list(drawings.rglob('test_*.png'))) == len(split_of(labelled / 'out', 'val'))
    return config, checkpoint, out, tested.stdout


def test_student_is_trained_and_tested(trained, labelled):
    config, checkpoint, out, log = trained
    val = split_of(labelled / 'out', 'val')
    label_maps = sorted(path.relative_to(out).as_posix() for path in out.rglob('*.png'))
    assert label_maps == sorted(f'{stem}.png' for stem in val)
    # The result is that of the label maps.
    areas = np.zeros((3, len(CLASSES)))
    for stem in val:
        predicted = np.asarray(Image.open(out / f'{stem}.png'))
        labels = np.asarray(Image.open(labelled / f'out/annotations/{stem}.png'))
        assert predicted.shape == (HEIGHT, WIDTH)
        for value in range(len(CLASSES)):
            hits = (predicted == value) & (labels != 255), labels == value
            areas[:, value] += (hits[0] & hits[1]).sum(), hits[0].sum(), hits[1].sum()
    with np.errstate(invalid='ignore'):
        expected = np.nanmean(100 * areas[0] / (areas[1] + areas[2] - areas[0]))
    # mmseg rounds it to two digits.
    assert f'mIoU: {np.round(expected, 2):.4f} ' in log
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)
    assert state['meta']['dataset_meta']['classes'] == CLASSES


def test_mmseg_runs_the_student_without_mmzeg(trained, labelled, tmp_path):
    config, checkpoint, out, _ = trained
    stem = split_of(labelled / 'out', 'val')[0]
    image = next((labelled / 'images').glob(f'{stem}.*'))
    command = [sys.executable, '-c', MMSEG_ALONE, config, checkpoint, image, tmp_path / 'labels.png']
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert str(CLASSES) in result.stdout
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'labels.png')), np.asarray(Image.open(out / f'{stem}.png')))


def test_mmseg_s_own_test_gives_the_same_result(trained):
    config, checkpoint, _, log = trained
    tool = Path(mmseg.__path__[0], '.mim/tools/test.py')
    command = [tool, config, checkpoint, '--work-dir', config.parent / 'mmseg', '--cfg-options', *loaders('test')]
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    metrics = [line.split('mIoU: ')[1].split()[0] for line in log.splitlines() if ' mIoU: ' in line]
    assert metrics and f'mIoU: {metrics[-1]} ' in result.stdout


def demo(*arguments):
    command = [sys.executable, ROOT / 'tools/demo.py', *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)


def test_demo_runs_the_student(trained, labelled, tmp_path):
    config, checkpoint, out, _ = trained
    images = sorted((labelled / 'images/seq0').iterdir())
    (tmp_path / 'bad.jpg').write_text('no image')
    inputs = [*images, tmp_path / 'bad.jpg']
    result = demo(config, checkpoint, *inputs, '--out', tmp_path / 'out', '--save-masks', '--batch-size', 3)
    assert result.returncode == 1 and '1 of 16 inputs could not be segmented' in result.stderr, result.stderr
    assert json.loads((tmp_path / 'out/masks/classes.json').read_text()) == dict(zip('012', CLASSES, strict=True))
    assert sorted(path.stem for path in (tmp_path / 'out').glob('*.jpg')) == [path.stem for path in images]
    val = [stem for stem in split_of(labelled / 'out', 'val') if stem.startswith('seq0/')]
    assert val
    for stem in val:
        label_map = np.asarray(Image.open(tmp_path / f'out/masks/{Path(stem).name}.png'))
        is_equal = label_map == np.asarray(Image.open(out / f'{stem}.png'))
        # The demo and mmseg's pipeline decode JPEGs by different libraries.
        assert is_equal.all() if (labelled / f'images/{stem}.PNG').is_file() else is_equal.mean() > 0.99


@pytest.mark.parametrize('option', [('--classes', 'cat; dog'), ('--gamma', '0'), ('--segments',)])
def test_demo_refuses_options_of_zegformer(labelled, tmp_path, option):
    config = labelled / 'out/train_segformer.py'
    result = demo(config, 'gone.pth', labelled / 'images/seq0', '--out', tmp_path / 'out', *option)
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert f'{option[0]}: {config} is a model of fixed classes' in result.stderr
    assert not (tmp_path / 'out').exists()
