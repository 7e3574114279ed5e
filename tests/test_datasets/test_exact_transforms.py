"""Faster transforms give the arrays of the plain ones, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import PhotoMetricDistortion as MMSegPhotoMetricDistortion
from mmseg.datasets.transforms import RandomFlip as MMSegRandomFlip
from mmseg.datasets.transforms import Resize
from mmseg.registry import TRANSFORMS
from mmseg.utils import register_all_modules

import mmzeg.datasets.transforms
from mmzeg.benchmarking.loading_benchmark import random_photograph, random_regions, write_random_coco
from mmzeg.datasets.transforms import PhotoMetricDistortion, RandomFlip
from mmzeg.datasets.transforms.load_image import register_image_loader
from mmzeg.datasets.transforms.load_labels import look_up
from mmzeg.datasets.transforms.resize import SMALL_OUTPUT, _Resize, nearest_pixels
from mmzeg.registry import DATASETS
from mmzeg.utils.run_checks import datasets_of

CONFIGS = Path(__file__).parents[2] / 'configs'


class PlainResize(Resize):
    """What ``_Resize`` computes, without its shortcuts."""

    def _resize_seg(self, results):
        for key in results.get('seg_fields', []):
            labels = torch.from_numpy(results[key].astype('float64'))[None, None]
            width, height = results['scale']
            resized = F.interpolate(labels, size=(height, width), mode='nearest')[0, 0].numpy()
            results[key] = resized.astype(results[key].dtype)


def test_photometric_distortion_equals_mmsegs():
    image = random_photograph(np.random.default_rng(0), (60, 80))
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    transforms = (PhotoMetricDistortion(), MMSegPhotoMetricDistortion())
    distorted = []
    for array in (image, noise, image[..., ::-1], noise[5:40, 7:60]):
        for seed in range(40):
            results = []
            for transform in transforms:
                np.random.seed(seed)
                results.append((transform(dict(img=array))['img'], np.random.rand()))
            np.testing.assert_array_equal(*(image for image, _ in results))
            # Both take the same random numbers: the transforms after them get the same, too.
            assert results[0][1] == results[1][1]
            distorted.append(not np.array_equal(results[0][0], array))
    assert np.mean(distorted) > 0.8


@pytest.mark.parametrize('shape', [(5, 7, 3), (5, 7, 1), (5, 7), (1, 1, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_flips_equal_mmsegs(shape, dtype):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    labels = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape[:2])
    for seed in range(30):
        results = []
        for transform in (RandomFlip, MMSegRandomFlip):
            np.random.seed(seed)
            flip = transform(prob=[0.2, 0.2, 0.2], direction=['horizontal', 'vertical', 'diagonal'])
            results.append(flip(dict(img=image, gt_seg_map=labels, seg_fields=['gt_seg_map'])))
        np.testing.assert_equal(*results)
        assert results[0]['img'].flags.c_contiguous


def test_photometric_distortion_refuses_floats():
    with pytest.raises(ValueError, match='the image is float32, not uint8'):
        PhotoMetricDistortion()(dict(img=np.zeros((2, 2, 3), np.float32)))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('size', [(48, 64), (333, 500), (427, 640), (81, 7), (1, 1)])
def test_label_maps_and_images_are_resized_as_before(size, dtype):
    random = np.random.default_rng(0)
    labels = random.integers(0, np.iinfo(dtype).max, size, dtype=dtype, endpoint=True)
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    scales = [
        (100, 28),
        (101, 28),
        (320, 240),
        (640, 427),
        (1707, 960),
        (1, 1),
        *map(tuple, random.integers(2, 700, (12, 2)).tolist()),
    ]
    for scale in scales:
        for view in (image, image[..., ::-1]):
            arrays = [
                transform(scale=scale, keep_ratio=False, backend='pillow')(
                    dict(img=view, gt_seg_map=labels, seg_fields=['gt_seg_map'])
                )
                for transform in (_Resize, PlainResize)
            ]
            np.testing.assert_array_equal(arrays[0]['img'], arrays[1]['img'])
            np.testing.assert_array_equal(arrays[0]['gt_seg_map'], arrays[1]['gt_seg_map'])
            assert arrays[0]['gt_seg_map'].dtype == dtype


def test_nearest_pixels_are_torchs():
    """In 2,000 random sizes. A product of numbers of pixels in single or double precision differs in 2 % of them."""
    random = np.random.default_rng(0)
    for number in range(2000):
        # Every fourth result is small.
        new_size = random.integers(1, 90 if number % 4 == 0 else 1300, 2).tolist()
        old_size = random.integers(1, 700, 2).tolist()
        labels = torch.arange(old_size[1], dtype=torch.float64).expand(1, 1, *old_size).contiguous()
        expected = F.interpolate(labels, size=new_size, mode='nearest')[0, 0, 0]
        columns = nearest_pixels(old_size[1], new_size[1], sum(new_size) <= SMALL_OUTPUT)
        np.testing.assert_array_equal(columns, expected.numpy())


@pytest.mark.parametrize('num_values', [3, 256, 900])
def test_look_up_equals_indexing(num_values):
    random = np.random.default_rng(0)
    for dtype in (np.uint8, np.int64):
        labels = random.integers(0, min(num_values, 256), (30, 40)).astype(dtype)
        for table in (random.integers(0, 256, num_values), random.integers(0, 65536, num_values)):
            np.testing.assert_array_equal(look_up(labels, table), table[labels])
            np.testing.assert_array_equal(look_up(labels, table > 99), table[labels] > 99)


def test_the_training_pipeline_of_coco_equals_the_plain_transforms(tmp_path):
    """Decoded, resized, cropped, distorted and packed arrays, with the same random numbers."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    register_image_loader()
    write_random_coco(tmp_path, num_images=3, size=(120, 160))
    dataset_config = Config.fromfile(CONFIGS / 'zegformer_r50_coco.py').train_dataloader.dataset
    dataset_config.data_root = str(tmp_path)
    plain = Config(dict(dataset=dataset_config)).dataset
    datasets = [DATASETS.build(dataset_config), DATASETS.build(plain)]
    # Replace the faster transforms of the second pipeline by the plain ones.
    plain_transforms = {
        'LoadImageFromFile': LoadImageFromFile(imdecode_backend='pillow'),
        'PhotoMetricDistortion': MMSegPhotoMetricDistortion(),
        'RandomFlip': MMSegRandomFlip(prob=0.5),
    }
    transforms = datasets[1].pipeline.transforms
    for index, transform in enumerate(transforms):
        name = type(transform).__name__.replace('LoadImageNamingFile', 'LoadImageFromFile')
        transforms[index] = plain_transforms.pop(name, transform)
        if name == 'RandomChoiceResize':
            transform.resize.resize = PlainResize(scale=0, keep_ratio=False, backend='pillow')
    assert not plain_transforms
    for seed in range(12):
        packed = []
        for dataset in datasets:
            np.random.seed(seed)
            packed.append(dataset[seed % 3])
        assert torch.equal(packed[0]['inputs'], packed[1]['inputs'])
        labels = [sample['data_samples'].gt_sem_seg.data for sample in packed]
        assert torch.equal(*labels) and labels[0].unique().numel() > 1


def steps_of(pipeline):
    """Yield the configs of the transforms of a pipeline, nested ones included."""
    if isinstance(pipeline, dict) and 'type' in pipeline:
        yield pipeline
    for child in pipeline.values() if isinstance(pipeline, dict) else pipeline:
        if isinstance(child, (dict, list, tuple)):
            yield from steps_of(child)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_configs_take_the_faster_transforms(path):
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    faster = [getattr(mmzeg.datasets.transforms, name) for name in mmzeg.datasets.transforms.__all__]
    cfg = Config.fromfile(path)
    splits = [f'{split}_dataloader' for split in ('train', 'val', 'test')]
    pipelines = [leaf.pipeline for split in splits if split in cfg for leaf in datasets_of(cfg[split].dataset)]
    steps = [step for pipeline in [*pipelines, cfg.get('tta_pipeline', ())] for step in steps_of(pipeline)]
    assert steps
    for step in steps:
        transform = TRANSFORMS.get(step['type'])
        assert not any(issubclass(other, transform) and other is not transform for other in faster), step


def test_random_images_have_the_size_of_photographs(tmp_path):
    write_random_coco(tmp_path, num_images=3)
    sizes = [path.stat().st_size for path in (tmp_path / 'images/train2017').iterdir()]
    assert len(sizes) == 3 and all(100_000 < size < 200_000 for size in sizes), sizes
    labels = random_regions(np.random.default_rng(0), (48, 64))
    assert labels.dtype == np.uint8 and (labels == 255).any() and 2 < len(np.unique(labels)) <= 12
