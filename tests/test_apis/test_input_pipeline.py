"""The test pipeline of any config takes an image in place of a dataset's files."""

import mmcv.transforms
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from mmzeg.apis.input_pipeline import apply_input_pipeline, build_input_pipeline
from mmzeg.datasets.transforms import DrawScene, LoadLabels
from mmzeg.datasets.transforms.loaders import is_loader, loads_labels
from mmzeg.deployment.onnx_export import resize_steps

LOAD, LABELS, PACK = dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')
RESIZE = dict(type='Resize', scale=(64, 48))
IMAGE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


def apply(*pipeline, **fields):
    cfg = Config(dict(test_dataloader=dict(dataset=fields or dict(pipeline=pipeline))))
    return apply_input_pipeline(build_input_pipeline(cfg), IMAGE)['inputs']


@pytest.mark.parametrize(
    'pipeline',
    [
        # A scope was a KeyError: 'seg_map_path'.
        [LOAD, RESIZE, dict(type='mmseg.LoadAnnotations'), PACK],
        [dict(type='mmcv.LoadImageFromFile'), dict(RESIZE, type='mmseg.Resize'), dict(type='LoadAnnotations'), PACK],
        [dict(type=mmcv.transforms.LoadImageFromFile), RESIZE, dict(type=LoadLabels), PACK],
        [dict(type='Compose', transforms=[LOAD, RESIZE]), LABELS, PACK],
        [dict(type='mmzeg.DrawScene'), RESIZE, PACK],
    ],
)
def test_loaders_of_any_name_are_left_out(pipeline):
    expected = apply(LOAD, RESIZE, LABELS, PACK)
    assert expected.shape == (3, 48, 64) and np.array_equal(apply(*pipeline), expected)


def test_joined_datasets():
    datasets = [dict(pipeline=[LOAD, RESIZE, LABELS, PACK])] * 2
    assert apply(type='ConcatDataset', datasets=datasets).shape == (3, 48, 64)


def test_a_transform_that_needs_a_dataset_is_named():
    with pytest.raises(ValueError, match="test_dataloader.dataset.pipeline: a transform needs 'depth_map_path'"):
        apply(LOAD, dict(type='LoadDepthAnnotation'), PACK)


def test_kinds_of_transforms():
    assert is_loader(LOAD) and not loads_labels(LOAD)
    assert all(is_loader(kind) and loads_labels(kind) for kind in (LABELS, DrawScene(), dict(type=DrawScene)))
    assert not any(is_loader(kind) for kind in (RESIZE, PACK, dict(type='NoSuchTransform'), dict(), len))


def test_onnx_leaves_out_the_same_loaders():
    pipeline = [dict(type='mmcv.LoadImageFromFile'), RESIZE, dict(type='mmseg.LoadAnnotations'), PACK]
    assert resize_steps(pipeline) == resize_steps([LOAD, RESIZE, LABELS, PACK]) != []
