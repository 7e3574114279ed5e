"""Joined datasets: what MMEngine refuses gets a remedy, and with it each dataset maps its own values."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image

from mmzeg.datasets.dataset_report import DatasetReport
from mmzeg.datasets.joined_datasets import find_join_problems
from mmzeg.registry import DATASETS
from mmzeg.utils.preflight import check_config

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='mmzeg.LoadLabels'), dict(type='PackSegInputs')]


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')


@pytest.fixture
def roots(tmp_path):
    """Two folders of road (left) and sky (right): values 5 and 8, and values 1 and 2."""
    for name, values in (('first', (5, 8)), ('second', (1, 2))):
        for folder in ('images', 'labels'):
            (tmp_path / name / folder).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), values[0], np.uint8)).save(tmp_path / name / f'images/{name}.jpg')
        Image.fromarray(np.repeat(np.array([values], np.uint8), 4, 1).repeat(8, 0)).save(
            tmp_path / name / f'labels/{name}.png'
        )
    return tmp_path / 'first', tmp_path / 'second'


def joined(roots, *overrides, **fields):
    datasets = [
        dict(
            type='mmzeg.FolderDataset',
            data_root=str(root),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            labels=labels,
            metainfo=dict(classes=['road', 'sky']),
            pipeline=PIPELINE,
        )
        | override
        for root, labels, override in zip(roots, (dict(road=5, sky=8), dict(road=1, sky=2)), overrides, strict=True)
    ]
    return dict(type='ConcatDataset', datasets=datasets, **fields)


def test_other_values_of_the_same_classes(roots):
    config = joined(roots, {}, {})
    (problem,) = find_join_problems(config, 'train_dataloader.dataset')
    assert problem == (
        "train_dataloader.dataset.datasets.1: class 'road' has the value 1, but 5 in datasets.0, which MMEngine refuses"
        ": add ignore_keys=['label_map'] next to datasets"
    )
    with pytest.raises(ValueError, match='does not match meta information of the first dataset'):
        DATASETS.build(config)

    # The remedy, and the right classes.
    config['ignore_keys'] = ['label_map']
    assert find_join_problems(config, 'train_dataloader.dataset') == []
    for sample in DATASETS.build(config):
        labels = sample['data_samples'].gt_sem_seg.data[0].numpy()
        assert np.array_equal(labels, np.repeat([[0, 1]], 4, 1).repeat(8, 0))


@pytest.mark.parametrize(
    'override, message',
    [
        (dict(metainfo=dict(classes=['sky', 'road'])), "datasets.1: class 0 is 'sky', but 'road' in datasets.0"),
        (
            dict(metainfo=dict(classes=['road'])),
            "datasets.1: class 1 is None, but 'sky' in datasets.0: give all joined",
        ),
        (dict(metainfo=dict(classes=['road', 'sky'], source='web')), r"ignore_keys=\['label_map', 'source'\]"),
    ],
)
def test_other_classes(roots, override, message):
    config = joined(roots, {}, override)
    cfg = Config(dict(val_dataloader=dict(dataset=config)))
    with pytest.raises(
        ValueError, match=f'val_dataloader.dataset.datasets.1: .*{message.removeprefix("datasets.1: ")}'
    ):
        check_config(cfg, ['val_dataloader'])
    report = DatasetReport.from_config(cfg, 'val', num_workers=1)
    assert len(report.problems) == 1 and report.num_images == 2


def test_nested_and_single_datasets(roots):
    config = joined(roots, {}, {})
    assert find_join_problems(config['datasets'][0], 'dataset') == []
    (problem,) = find_join_problems(dict(type='RepeatDataset', times=2, dataset=config), 'dataset')
    assert problem.startswith('dataset.dataset.datasets.1: ')
