"""Batches of images of different sizes are refused by the headers of their files."""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from PIL import ExifTags, Image

from mmzeg.datasets.dataloader_check import check_batch, check_dataloader

LOAD, LABELS, PACK = dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')
KEEP_RATIO = dict(type='Resize', scale=(64, 32), keep_ratio=True)
FIXED = dict(type='Resize', scale=(64, 32))


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


@pytest.fixture
def folder(tmp_path):
    """Four images: two of 40 x 20, one of 20 x 40, and one that its EXIF orientation turns to 20 x 40."""
    for name in ('img', 'ann'):
        (tmp_path / name).mkdir()
    for name, size in (('a', (40, 20)), ('b', (40, 20)), ('c', (20, 40)), ('d', (40, 20))):
        exif = Image.Exif()
        if name == 'd':
            exif[ExifTags.Base.Orientation] = 6
        Image.new('RGB', size).save(tmp_path / f'img/{name}.jpg', exif=exif)
        upright = size[::-1] if name == 'd' else size
        Image.fromarray(np.zeros(upright[::-1], np.uint8)).save(tmp_path / f'ann/{name}.png')
    return tmp_path


def loader(folder, batch_size, *transforms, shuffle=False, wrap=dict):
    dataset = dict(
        type='mmzeg.FolderDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        labels=['road'],
        pipeline=[LOAD, *transforms, LABELS, PACK],
    )
    sampler = dict(type='DefaultSampler', shuffle=shuffle)
    cfg = dict(batch_size=batch_size, num_workers=0, sampler=sampler, dataset=wrap(dataset))
    return Runner.build_dataloader(cfg, seed=0)


def check(dataloader):
    check_dataloader(dataloader, 'val_dataloader', is_training=False, needs_labels=True)


def test_batches_of_one_size_pass(folder):
    # a and b, c and d; a fixed size; one image at a time.
    for batch_size, transforms in ((2, [KEEP_RATIO]), (4, [FIXED]), (3, [FIXED]), (1, [KEEP_RATIO])):
        dataloader = loader(folder, batch_size, *transforms)
        check(dataloader)
        assert sum(len(batch['inputs']) for batch in dataloader) == 4
        for batch in dataloader:
            check_batch(batch, 'val_dataloader')


@pytest.mark.parametrize('wrap', [dict, lambda dataset: dict(type='ConcatDataset', datasets=[dataset])])
def test_a_batch_of_two_sizes_is_refused(folder, wrap):
    """mmseg's assertion names neither files nor the remedy, after all iterations before the first validation."""
    message = (
        r'^val_dataloader.batch_size=3: .*a.jpg has 64 x 32 .* and .*c.jpg 32 x 64, .* val_dataloader.batch_size=1$'
    )
    dataloader = loader(folder, 3, KEEP_RATIO, wrap=wrap)
    with pytest.raises(ValueError, match=message):
        check(dataloader)
    # The batch itself is refused too, where file headers cannot be read.
    with pytest.raises(ValueError, match=message):
        check_batch(next(iter(dataloader)), 'val_dataloader')


def test_the_sampler_stays_as_it_is(folder):
    dataloader = loader(folder, 2, FIXED, shuffle=True)
    indices = list(dataloader.sampler)
    check(dataloader)
    assert list(dataloader.sampler) == indices


def test_batches_of_test_time_augmentation():
    def sample(name, *shapes):
        samples = [SegDataSample(metainfo=dict(img_path=name)) for _ in shapes]
        return dict(inputs=[torch.zeros(3, *shape) for shape in shapes], data_samples=samples)

    same = [sample('a.jpg', (8, 8), (16, 16)), sample('b.jpg', (8, 8), (16, 16))]
    check_batch(pseudo_collate(same), 'test_dataloader')
    with pytest.raises(ValueError, match='a.jpg has 8 x 8 pixels and b.jpg 8 x 4'):
        check_batch(pseudo_collate([same[0], sample('b.jpg', (4, 8), (8, 16))]), 'test_dataloader')
