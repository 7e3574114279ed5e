"""The metric equals the released evaluator, whatever the batches, label values and processes."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import dist
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from two_processes import run_two

from mmzeg.evaluation import ZeroShotMIoU

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'evaluator'
META = dict(classes=['a', 'b', 'c'], unseen_classes=['c'])
KEYS = ['seen_mIoU', 'unseen_mIoU', 'hIoU', 'mIoU', 'aAcc', 'mAcc']


def sample(prediction, label):
    maps = dict(pred_sem_seg=prediction, gt_sem_seg=label)
    return {key: dict(data=torch.as_tensor(np.asarray(value))[None]) for key, value in maps.items()} | {
        'img_path': 'street.jpg'
    }


def make_metric(meta=META, **kwargs):
    metric = ZeroShotMIoU(**kwargs)
    metric.dataset_meta = meta
    return metric


@pytest.mark.parametrize('batch', [1, 4, 6])
def test_golden(batch):
    golden = json.loads((GOLDEN / 'metrics.json').read_text())
    maps = np.load(GOLDEN / 'maps.npz')
    names = golden['class_names']
    metric = ZeroShotMIoU(ignore_index=golden['ignore_index'])
    metric.dataset_meta = dict(classes=names, unseen_classes=[names[index] for index in golden['unseen']])
    samples = [sample(prediction, label) for prediction, label in zip(maps['pred'], maps['gt'], strict=True)]
    for start in range(0, len(samples), batch):
        metric.process({}, samples[start : start + batch])
    result = metric.evaluate(len(samples))
    pairs = dict(
        seen_mIoU='seen_IoU', unseen_mIoU='unseen_IoU', hIoU='harmonic mean', mIoU='mIoU', aAcc='pACC', mAcc='mACC'
    )
    assert list(result) == KEYS
    for key, golden_key in pairs.items():
        assert result[key] == pytest.approx(golden['metrics'][golden_key], abs=1e-6)


def test_by_hand_with_a_class_absent_from_the_ground_truth():
    metric = make_metric()
    metric.process({}, [sample([[0, 2, 2, 0, 1]], [[0, 0, 2, 255, 0]])])
    result = metric.evaluate(1)
    # a: 1 of 3, c: 1 of 2; b is predicted but nowhere labelled, and the fourth pixel is ignored.
    assert result['seen_mIoU'] == pytest.approx(100 / 3) and result['unseen_mIoU'] == 50
    assert result['mIoU'] == pytest.approx((100 / 3 + 50) / 2) and result['hIoU'] == pytest.approx(40)
    assert result['aAcc'] == 50 and result['mAcc'] == pytest.approx((100 / 3 + 100) / 2)


@pytest.mark.parametrize('ignore_index', [255, -1, 65535, 1000])
def test_any_ignore_value(ignore_index):
    metric = make_metric(ignore_index=ignore_index)
    metric.process({}, [sample([[0, 2, 2]], np.array([[0, 2, ignore_index]], dtype=np.int32))])
    assert metric.evaluate(1)['mIoU'] == 100


@pytest.mark.parametrize('wrap', [np.asarray, lambda array: torch.from_numpy(array.astype(np.int64))])
def test_16_bit_label_maps(wrap):
    names = [f'class {index}' for index in range(847)]
    label = np.array([[846, 300, 65535], [255, 846, 256]], dtype=np.uint16)
    prediction = np.array([[846, 300, 0], [255, 844, 0]], dtype=np.uint16)
    metric = make_metric(dict(classes=names, unseen_classes=names[846:]), ignore_index=65535)
    maps = dict(pred_sem_seg=dict(data=wrap(prediction)), gt_sem_seg=dict(data=wrap(label)))
    metric.process(None, [maps])
    result = metric.evaluate(1)
    assert result['unseen_mIoU'] == 50 and result['seen_mIoU'] == pytest.approx(200 / 3) and result['aAcc'] == 60


def test_every_class_seen():
    metric = make_metric(dict(classes=['a', 'b']))
    metric.process({}, [sample([[0, 1]], [[0, 0]])])
    result = metric.evaluate(1)
    assert list(result) == KEYS and result['seen_mIoU'] == result['mIoU'] == 50
    assert math.isnan(result['unseen_mIoU']) and math.isnan(result['hIoU'])


def test_no_pixel_is_right():
    metric = make_metric()
    metric.process({}, [sample([[2, 0]], [[0, 2]])])
    result = metric.evaluate(1)
    assert [result[key] for key in KEYS] == [0] * 6


def test_empty_run_and_only_ignored_pixels():
    metric = make_metric()
    assert all(math.isnan(value) for value in metric.evaluate(0).values())
    metric.process({}, [sample([[0, 1]], [[255, 255]])])
    assert all(math.isnan(value) for value in metric.evaluate(1).values())


def test_argument_overrides_the_dataset_and_prefix():
    metric = make_metric(unseen_classes=['a'], prefix='val')
    metric.process({}, [sample([[0, 1, 1, 2]], [[0, 1, 0, 2]])])
    result = metric.evaluate(1)
    assert list(result) == [f'val/{key}' for key in KEYS]
    assert result['val/unseen_mIoU'] == 50 and result['val/seen_mIoU'] == 75 and result['val/hIoU'] == 60


def test_batch_of_odd_sizes_in_an_evaluator_that_is_used_again():
    evaluator = Evaluator([dict(type='mmzeg.ZeroShotMIoU', unseen_classes=['b'])])
    evaluator.dataset_meta = META
    shapes = [(3, 5), (7, 1), (1, 1)]
    samples = []
    for shape in shapes:
        data_sample = SegDataSample(metainfo=dict(img_path='street.jpg'))
        data_sample.pred_sem_seg = PixelData(data=torch.ones(1, *shape, dtype=torch.long))
        data_sample.gt_sem_seg = PixelData(data=torch.ones(1, *shape, dtype=torch.long))
        samples.append(data_sample)
    for _ in range(2):
        evaluator.process(samples, {})
        result = evaluator.evaluate(3)
        assert result['unseen_mIoU'] == result['aAcc'] == 100 and math.isnan(result['seen_mIoU'])
    evaluator.process([sample([[0, 0]], [[0, 1]])], {})
    assert evaluator.evaluate(1)['aAcc'] == 50


def test_offline_evaluate():
    evaluator = Evaluator(ZeroShotMIoU())
    evaluator.dataset_meta = META
    samples = [sample([[0, 1, 2]], [[0, 1, 2]]), sample([[0]], [[1]])]
    assert evaluator.offline_evaluate(samples, chunk_size=1) == evaluator.offline_evaluate(samples, chunk_size=2)


def test_table_marks_every_class(monkeypatch):
    lines = []
    monkeypatch.setattr('mmzeg.evaluation.zero_shot_miou.print_log', lambda text, *_: lines.extend(text.splitlines()))
    metric = make_metric()
    metric.process({}, [sample([[0, 2, 2]], [[0, 0, 2]])])
    metric.evaluate(1)
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('|')]
    assert rows == [
        ['class', 'seen', 'IoU', 'Acc'],
        ['a', 'seen', '50.00', '50.00'],
        ['b', 'seen', 'nan', 'nan'],
        ['c', 'unseen', '50.00', '100.00'],
    ]


def test_memory_does_not_grow_with_the_images():
    metric = make_metric()
    sizes = []
    for count in (2, 200):
        for _ in range(count):
            metric.process({}, [sample([[0, 1], [2, 0]], [[0, 1], [2, 2]])])
        sizes.append(len(pickle.dumps(metric)))
    assert sizes[1] <= sizes[0] + 8


@pytest.mark.parametrize(
    'prediction, label, message',
    [
        ([[0, 1]], [[0, 7]], 'street.jpg: label value 7 is outside the 3 classes'),
        ([[0, 1]], [[0, -1]], 'street.jpg: label value -1'),
        ([[0, 3]], [[0, 1]], 'street.jpg: predicted value 3'),
        ([[0, 1]], [[0], [1]], 'street.jpg: the prediction is 1 x 2 and its label 2 x 1'),
    ],
)
def test_bad_maps(prediction, label, message):
    with pytest.raises(ValueError, match=message):
        make_metric().process({}, [sample(prediction, label)])


def test_sample_without_a_label():
    unlabelled = sample([[0]], [[0]])
    del unlabelled['gt_sem_seg']
    with pytest.raises(ValueError, match='street.jpg: no label'):
        make_metric().process({}, [unlabelled])


def test_bad_metainfo_is_refused_before_any_image():
    with pytest.raises(ValueError, match="'d' is listed in unseen"):
        make_metric(unseen_classes=['d'])
    with pytest.raises(ValueError, match='names no classes'):
        make_metric({}).process({}, [])


def test_more_samples_than_the_dataset_has():
    metric = make_metric()
    metric.process({}, [sample([[0]], [[0]])] * 4)
    with pytest.raises(ValueError, match='4 samples for a dataset of 2'):
        metric.evaluate(2)


def _samples(count):
    generator = np.random.default_rng(0)
    return [sample(*generator.integers(0, 3, (2, 4 + index, 5))) for index in range(count)]


def _process_of_two(rank, folder, counts, batch):
    metric = make_metric()
    results = []
    for count in counts:
        samples = _samples(count)
        indices = list(DefaultSampler(samples, shuffle=False))
        for start in range(0, len(indices), batch):
            metric.process({}, [samples[index] for index in indices[start : start + batch]])
        results.append(metric.evaluate(count))
    metric.process({}, _samples(3))
    with pytest.raises(ValueError, match='6 samples for a dataset of 3'):
        metric.evaluate(3)
    assert dist.get_rank() == rank
    torch.save(results, folder / f'{rank}.pt')


@pytest.mark.parametrize('batch', [1, 2])
def test_two_processes_equal_a_single_one(tmp_path, batch):
    counts = [5, 6, 1]
    metric = make_metric()
    expected = []
    for count in counts:
        metric.process({}, _samples(count))
        expected.append(metric.evaluate(count))
    run_two(_process_of_two, tmp_path, counts, batch)
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pt') == expected
