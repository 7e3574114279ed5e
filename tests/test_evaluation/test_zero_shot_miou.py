import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine import dist
from mmengine.evaluator import Evaluator

from mmzeg.evaluation import ZeroShotMIoU

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'evaluator'
META = dict(classes=['a', 'b', 'c'], unseen_classes=['c'])


def sample(prediction, label):
    maps = dict(pred_sem_seg=prediction, gt_sem_seg=label)
    return {key: dict(data=torch.as_tensor(np.asarray(value))[None]) for key, value in maps.items()} | {
        'img_path': 'street.jpg'
    }


def metric(**kwargs):
    made = ZeroShotMIoU(**kwargs)
    made.dataset_meta = META
    return made


def test_golden():
    golden = json.loads((GOLDEN / 'metrics.json').read_text())
    maps = np.load(GOLDEN / 'maps.npz')
    names = golden['class_names']
    made = ZeroShotMIoU(ignore_index=golden['ignore_index'])
    made.dataset_meta = dict(classes=names, unseen_classes=[names[index] for index in golden['unseen']])
    found = [sample(prediction, label) for prediction, label in zip(maps['pred'], maps['gt'], strict=True)]
    made.process({}, found)
    result = made.evaluate(len(found))
    pairs = dict(
        seen_mIoU='seen_IoU', unseen_mIoU='unseen_IoU', hIoU='harmonic mean', mIoU='mIoU', aAcc='pACC', mAcc='mACC'
    )
    for ours, theirs in pairs.items():
        assert result[ours] == pytest.approx(golden['metrics'][theirs], abs=1e-6)


def test_by_hand_with_an_absent_class_and_16_bit_labels():
    made = metric(ignore_index=65535)
    made.process({}, [sample([[0, 2, 2, 0]], np.array([[0, 0, 2, 65535]], dtype=np.int32))])
    result = made.evaluate(1)
    assert result['seen_mIoU'] == 50 and result['unseen_mIoU'] == 50 and result['mIoU'] == 50
    assert result['aAcc'] == pytest.approx(200 / 3) and result['mAcc'] == 75


def test_starts_anew_and_works_in_an_evaluator():
    evaluator = Evaluator([dict(type='mmzeg.ZeroShotMIoU', unseen_classes=['b'])])
    evaluator.dataset_meta = META
    for _ in range(2):
        assert evaluator.offline_evaluate([sample([[0, 1]], [[0, 1]])], chunk_size=1)['hIoU'] == 100


@pytest.mark.parametrize(
    'prediction, label, message',
    [([[0, 1]], [[0, 7]], 'street.jpg: label value 7'), ([[0, 1]], [[0], [1]], 'street.jpg: the prediction is')],
)
def test_bad_maps(prediction, label, message):
    with pytest.raises(ValueError, match=message):
        metric().process({}, [sample(prediction, label)])


def _images():
    generator = np.random.default_rng(0)
    return [(generator.integers(0, 3, (4, 5)), generator.integers(0, 3, (4, 5))) for _ in range(5)]


def _one_process(rank, path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{path}.rendezvous', rank=rank, world_size=2)
    made, images = metric(), _images()
    for index in [*range(5), 0][rank::2]:
        made.process({}, [sample(*images[index])])
    result = made.evaluate(5)
    if dist.is_main_process():
        torch.save(result, path)


def test_two_processes_equal_one(tmp_path):
    made = metric()
    for image in _images():
        made.process({}, [sample(*image)])
    mp.spawn(_one_process, (tmp_path / 'result.pt',), nprocs=2)
    assert torch.load(tmp_path / 'result.pt') == made.evaluate(5)
