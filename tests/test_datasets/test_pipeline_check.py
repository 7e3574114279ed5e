"""Labels that do not stay on their pixels, or change their class, are refused before the first batch."""

import random
from pathlib import Path

import mmcv.transforms
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.datasets.pipeline_check import check_pipeline
from mmzeg.datasets.transforms import LoadLabels
from mmzeg.datasets.world import Scene
from mmzeg.utils.run_checks import datasets_of

CONFIGS = Path(__file__).parents[2] / 'configs'
LOAD, LABELS, PACK = dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')
RESIZE = dict(type='Resize', scale=(96, 72))
CROP = dict(type='RandomCrop', crop_size=(48, 48))
FLIP = dict(type='RandomFlip', prob=0.5)
ROTATE = dict(type='mmseg.RandomRotate', prob=0.1, degree=20)
COLOUR = dict(type='PhotoMetricDistortion')
# The same transforms in less time
FAST_FLIP, FAST_COLOUR = dict(FLIP, type='mmzeg.RandomFlip'), dict(type='mmzeg.PhotoMetricDistortion')
AUGMENT = dict(type='TestTimeAug', transforms=[[dict(RESIZE), dict(RESIZE, scale=(128, 96))], [LABELS], [PACK]])


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


@pytest.fixture
def sample(tmp_path):
    """A sample of a FolderDataset whose classes have the values 5 and 8."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'a.jpg')
    Image.fromarray(np.where(noise[..., 0] < 128, 5, 8).astype(np.uint8)).save(tmp_path / 'a.png')
    return dict(
        img_path=str(tmp_path / 'a.jpg'),
        seg_map_path=str(tmp_path / 'a.png'),
        label_map={5: 0, 8: 1},
        reduce_zero_label=False,
        seg_fields=[],
    )


def check(sample, *transforms, is_training=True, needs_labels=True):
    pipeline = Compose(list(transforms))
    check_pipeline(pipeline, sample, 2, 'train_dataloader.dataset.pipeline', is_training, needs_labels)


@pytest.mark.parametrize(
    'transforms, message',
    [
        # 2.5 % of the labels stayed on their pixels.
        ([LOAD, RESIZE, LABELS, CROP], 'Resize changes the image before LoadLabels loads its labels'),
        ([LOAD, FLIP, LABELS], 'RandomFlip changes the image before LoadLabels'),
        ([LOAD, FAST_COLOUR, FAST_FLIP, LABELS], 'RandomFlip changes the image before LoadLabels'),
        ([LOAD, ROTATE, LABELS], 'RandomRotate changes the image before LoadLabels'),
        ([LOAD, dict(CROP, cat_max_ratio=0.75), LABELS], 'RandomCrop changes the image before LoadLabels'),
        ([LOAD, COLOUR, dict(type='mmcv.Pad', size_divisor=50), LABELS], 'Pad changes the image'),
        ([LOAD, RESIZE, dict(type='mmseg.LoadAnnotations')], 'Resize changes the image before LoadAnnotations'),
        ([dict(type=mmcv.transforms.LoadImageFromFile), RESIZE, dict(type=LoadLabels)], 'Resize changes the image'),
        # Nested transforms.
        ([LOAD, dict(type='RandomApply', transforms=[ROTATE], prob=0.1), LABELS], 'RandomRotate changes the image'),
        ([dict(type='Compose', transforms=[LOAD, FLIP]), LABELS], 'RandomFlip changes the image'),
        ([LOAD, dict(type='RandomChoice', transforms=[[COLOUR], [FLIP]]), LABELS], 'RandomFlip changes the image'),
        (
            [dict(type='RandomChoice', transforms=[[LOAD, LABELS], [LOAD, CROP, LABELS]])],
            'RandomCrop changes the image',
        ),
        # Without labels.
        ([LOAD, RESIZE, PACK], "no transform loads labels: add dict.type='mmzeg.LoadLabels'. after"),
        ([LOAD, dict(type='RandomApply', transforms=[LABELS], prob=0.5), PACK], 'no transform loads labels'),
        ([LOAD, dict(type='GenerateEdge'), PACK], 'no transform loads labels'),
        # Values 0 to 4, which are no class, became classes 0 to 1.
        ([LOAD, dict(type='LoadAnnotations')], 'LoadAnnotations turns the value 0, which is no class .* into class 0'),
    ],
)
def test_training_pipelines_that_are_refused(sample, transforms, message):
    with pytest.raises(ValueError, match=f'^train_dataloader.dataset.pipeline: .*{message}') as raised:
        check(sample, *transforms)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    'transforms',
    [
        [LOAD, LABELS, RESIZE, CROP, FLIP, ROTATE, PACK],
        [LOAD, COLOUR, dict(type='RandomFlip', prob=0.0), LABELS, FLIP, PACK],
        [LOAD, FAST_COLOUR, dict(FAST_FLIP, prob=0.0), LABELS, FAST_FLIP, PACK],
        [LOAD, dict(type='Resize', scale=(128, 96)), LABELS, PACK],
        [dict(type='Compose', transforms=[LOAD, LABELS]), CROP, PACK],
        [LABELS, LOAD, RESIZE, PACK],
    ],
)
def test_training_pipelines_that_pass(sample, transforms):
    check(sample, *transforms)


@pytest.mark.parametrize(
    'transforms, message',
    [
        # mmseg flips predictions back, but not labels.
        ([LOAD, LABELS, FLIP], 'RandomFlip changes labels, .* load the labels after RandomFlip'),
        ([LOAD, LABELS, FAST_FLIP], 'RandomFlip changes labels, .* load the labels after RandomFlip'),
        ([LOAD, LABELS, RESIZE], 'Resize changes labels'),
        ([LOAD, CROP, LABELS], 'RandomCrop crops, rotates or pads the image, .* remove RandomCrop'),
        ([LOAD, LABELS, CROP], 'RandomCrop crops, rotates or pads the image'),
        ([LOAD, ROTATE, LABELS], 'RandomRotate crops, rotates or pads'),
        ([LOAD, RESIZE, dict(type='Pad', size=(128, 128)), LABELS], 'Pad crops, rotates or pads'),
        ([LOAD, dict(type='CenterCrop', crop_size=(128, 90)), LABELS], 'CenterCrop crops, rotates or pads'),
        ([LOAD, LABELS, dict(AUGMENT, transforms=[[RESIZE], [PACK]])], 'Resize changes labels'),
        ([LOAD, RESIZE, dict(type='LoadAnnotations')], 'LoadAnnotations turns the value 0'),
        ([LOAD, RESIZE, PACK], 'no transform loads labels'),
    ],
)
def test_test_pipelines_that_are_refused(sample, transforms, message):
    with pytest.raises(ValueError, match=message):
        check(sample, *transforms, PACK, is_training=False)


@pytest.mark.parametrize(
    'transforms',
    [
        [LOAD, RESIZE, LABELS, PACK],
        [LOAD, dict(RESIZE, keep_ratio=True), dict(type='RandomFlip', prob=1.0), LABELS, PACK],
        [LOAD, FAST_COLOUR, dict(RESIZE, keep_ratio=True), dict(FAST_FLIP, prob=1.0), LABELS, PACK],
        [LOAD, dict(type='ResizeToMultiple', size_divisor=32), LABELS, PACK],
        [LOAD, LABELS, dict(type='Resize', scale=(128, 96)), PACK],
        [LOAD, AUGMENT],
    ],
)
def test_test_pipelines_that_pass(sample, transforms):
    check(sample, *transforms, is_training=False)
    # Images without labels, where no metric needs any.
    del sample['seg_map_path']
    check(sample, *transforms, is_training=False, needs_labels=False)


@pytest.mark.parametrize('loader', [LABELS, dict(type='LoadAnnotations')])
def test_a_dataset_without_label_maps(sample, loader):
    """The message was "add LoadLabels", which was there."""
    del sample['seg_map_path']
    for is_training in (True, False):
        with pytest.raises(ValueError, match='pipeline: the dataset has no label maps: set data_prefix.seg_map_path'):
            check(sample, LOAD, loader, PACK, is_training=is_training)


def test_16_bit_values(sample):
    """8 bits turn the ignored value 65535 into 255."""
    sample |= dict(label_map={value: value for value in range(256)}, ignore_index=65535)
    with pytest.raises(ValueError, match='turns the value 65535, .* into class 255'):
        check_pipeline(Compose([LOAD, dict(type='LoadAnnotations')]), sample, 256, 'pipeline', True, True)


def test_zero_labels_of_mmseg(sample):
    """mmseg subtracts 1, then maps: 0 is ignored, and 1 to 3 are the values of the classes."""
    label_map = {0: 0, 1: 255, 2: 1}
    Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (96, 32))).save(sample['seg_map_path'])
    sample |= dict(label_map=label_map, reduce_zero_label=True)
    check(sample, LOAD, dict(type='LoadAnnotations'), RESIZE, PACK)


def test_transforms_that_need_labels_of_classes(sample):
    """A grid of positions is no label map for them."""

    def count_labels(results):
        results['counts'] = np.zeros(2)[results['gt_seg_map']].shape
        return results

    check(sample, LOAD, LABELS, count_labels, PACK, is_training=False)


def test_global_random_state_and_transforms_stay(sample):
    pipeline = Compose([LOAD, FLIP, ROTATE, COLOUR, RESIZE, LABELS, PACK])
    states = []
    for _ in range(2):
        states.append((random.getstate(), np.random.get_state(), torch.get_rng_state()))
        with pytest.raises(ValueError, match='RandomFlip'):
            check_pipeline(pipeline, sample, 2, 'pipeline', True, True)
    first, second = states
    assert first[0] == second[0] and torch.equal(first[2], second[2])
    assert all(np.array_equal(one, other) for one, other in zip(first[1], second[1], strict=True))
    assert pipeline.transforms[1].prob == 0.5 and sample['seg_fields'] == []


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_all_configs_pass(sample, path):
    cfg = Config.fromfile(path)
    sample['label_map'] = None
    sample['scene'] = Scene('val', 0, size=160, unseen_frequency=1.0, seed=0)
    # Masks of other models are not trained.
    splits = [split for split in ('train', 'val', 'test') if f'{split}_dataloader' in cfg]
    assert 'test' in splits and ('train' in splits or path.stem.startswith('proposals_'))
    for split in splits:
        for dataset in datasets_of(cfg[f'{split}_dataloader'].dataset):
            check_pipeline(Compose(dataset.pipeline), sample, 255, split, split == 'train', True)
    if 'tta_pipeline' in cfg:
        check_pipeline(Compose(cfg.tta_pipeline), sample, 255, 'tta_pipeline', False, True)
