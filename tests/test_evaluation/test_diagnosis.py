"""Errors of masks and of classification apart; tests/test_tools/test_world_tools.py runs a complete diagnosis."""

import json
from types import SimpleNamespace

import torch

from mmzeg.evaluation.diagnosis import Diagnosis, diagnosis_table, mask_iou
from mmzeg.vocabulary import Vocabulary


def test_without_unseen_classes_the_results_are_json():
    diagnosis = Diagnosis(SimpleNamespace(vocabulary=Vocabulary(['sky', 'dog'])))
    diagnosis.areas = {name: torch.ones(3, 2) for name in diagnosis.areas}
    diagnosis.num_masks += 1
    diagnosis.num_recalled += 1
    results = diagnosis.results()
    assert json.loads(json.dumps(results, allow_nan=False))['recall'] == dict(seen=100, unseen=None)
    assert '- |    - |' in diagnosis_table(results) and 'unseen -' in diagnosis_table(results)


def test_mask_iou():
    first = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]]).bool()
    second = torch.tensor([[[0, 1, 1, 0]], [[1, 1, 0, 0]], [[0, 0, 0, 0]]]).bool()
    torch.testing.assert_close(mask_iou(first, second), torch.tensor([[1 / 3, 1, 0], [0, 0, 0]]))
