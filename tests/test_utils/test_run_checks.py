"""Fields of a config that do not fit together are refused before anything is built."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from mmzeg.evaluation.zero_shot_miou import summarize_areas
from mmzeg.utils.run_checks import METRIC_KEYS, check_run

CONFIGS = Path(__file__).parents[2] / 'configs'
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WORLD_CLIP = dict(type='mmzeg.CLIP', pretrained=str(CONFIGS / '_base_/models/world_clip/open_clip_model.safetensors'))
FOLDERS = dict(type='mmzeg.FolderDataset', labels=['road', 'sky'])


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


def config(**options):
    cfg = Config.fromfile(CONFIGS / 'zegformer_r18_camvid.py')
    cfg.merge_from_dict({name.replace('__', '.'): value for name, value in options.items()})
    return cfg


def test_all_configs_pass():
    for path in CONFIGS.glob('*.py'):
        cfg = Config.fromfile(path)
        check_run(cfg, [field for field in DATALOADERS if cfg.get(field)])


@pytest.mark.parametrize(
    'options, message',
    [
        (
            dict(train_cfg=dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2)),
            r"never ends .* train_dataloader.sampler.type='DefaultSampler'",
        ),
        (dict(train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=2)), 'EpochBasedTrainLoop never ends'),
        (dict(train_cfg__val_interval=0), 'train_cfg.val_interval=0: give 1 or more'),
        (dict(default_hooks__checkpoint__save_best='hIou'), "save_best='hIou': .* give one of auto, seen_mIoU"),
        (dict(default_hooks__checkpoint__save_best=['hIoU', 'x']), "save_best='x'"),
        (dict(optim_wrapper__optimizer__type='AdamWW'), "optim_wrapper.optimizer.type='AdamWW': not registered"),
        (dict(model__test_cfg=dict(mode='slide', stride=(64, 64))), 'mode=.slide. needs crop_size'),
        (dict(model__test_cfg=dict(mode='slide', crop_size=(64, 64), stride=32)), r'needs stride=\(height, width\)'),
        (
            dict(model__test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(64, 96))),
            r'stride=\(64, 96\) is larger than crop_size=\(64, 64\)',
        ),
        (dict(model__decode_head__ignore_index=65535), 'model.decode_head.ignore_index is 65535, but .* 255 in train'),
        (dict(model__data_preprocessor__seg_pad_val=0), 'model.data_preprocessor.seg_pad_val is 0, but'),
        (
            dict(model__backbone=dict(_delete_=True, type='mmzeg.CLIPBackbone', clip=WORLD_CLIP)),
            "CLIPBackbone needs CLIP's own normalization: set model.data_preprocessor",
        ),
        (dict(test_evaluator__ignore_index=0), 'test_evaluator.ignore_index is 0, but .* 255 in test_dataloader'),
    ],
)
def test_what_would_fail_later_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_run(config(**options), DATALOADERS)


def test_valid_choices_pass():
    sampler = dict(type='DefaultSampler', shuffle=True)
    train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2)
    check_run(config(train_cfg=train_cfg, train_dataloader__sampler=sampler), DATALOADERS)
    check_run(config(default_hooks__checkpoint__save_best='zs/hIoU', val_evaluator__prefix='zs'), DATALOADERS)
    other = [dict(type='mmzeg.ZeroShotMIoU'), dict(type='MyMetric')]
    check_run(config(default_hooks__checkpoint__save_best='mine', val_evaluator=other), ['train_dataloader'])
    check_run(config(train_cfg__val_interval=0, val_dataloader=None, val_cfg=None), DATALOADERS)
    check_run(config(model__test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(64, 32))), DATALOADERS)


def test_the_metric_returns_the_keys():
    metrics, _, _ = summarize_areas([[1], [1], [1]], [True])
    assert set(metrics) == set(METRIC_KEYS)


@pytest.mark.parametrize(
    'transform, message',
    [
        (dict(type='Pad', size=(64, 64)), r'pipeline.1.pad_val.seg \(Pad\) is 255'),
        (dict(type='mmseg.RandomRotate', prob=1.0, degree=9, seg_pad_val=0), r'1.seg_pad_val \(RandomRotate\) is 0'),
        (dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.75), r'1.ignore_index \(RandomCrop\) is 255'),
        (dict(type='RandomApply', transforms=[dict(type='Pad', size=(9, 9))]), r'1.transforms.0.pad_val.seg \(Pad\)'),
    ],
)
def test_transforms_fill_labels_with_the_ignored_value(transform, message):
    pipeline = [dict(type='mmzeg.LoadLabels'), transform]
    dataset = FOLDERS | dict(ignore_index=65535, pipeline=pipeline)
    cfg = dict(train_dataloader=dict(dataset=dataset))
    with pytest.raises(ValueError, match=rf'train_dataloader.dataset.pipeline.{message.removeprefix("pipeline.")}'):
        check_run(cfg, DATALOADERS)
    # Before the labels are loaded a transform does not fill them.
    pipeline.reverse()
    check_run(cfg, DATALOADERS)


@pytest.mark.parametrize('labels', [dict(road=1, sky=2), [('road', 1), ('sky', 2)]])
def test_listed_values_with_reduce_zero_label_are_refused(labels):
    dataset = FOLDERS | dict(labels=labels, reduce_zero_label=True)
    with pytest.raises(ValueError, match='val_dataloader.dataset.reduce_zero_label=True would subtract 1'):
        check_run(dict(val_dataloader=dict(dataset=dataset)), DATALOADERS)
    check_run(dict(val_dataloader=dict(dataset=dataset | dict(reduce_zero_label=False))), DATALOADERS)
