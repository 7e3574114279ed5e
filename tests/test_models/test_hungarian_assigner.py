"""HungarianAssigner matches queries and targets one to one."""

import pytest
import torch

from mmzeg.registry import TASK_UTILS

COSTS = [
    dict(type='mmdet.ClassificationCost', weight=1.0),
    dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
    dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
]


@pytest.fixture
def assigner():
    return TASK_UTILS.build(dict(type='mmzeg.HungarianAssigner', match_costs=COSTS))


@pytest.mark.parametrize('num_targets', [0, 1, 3, 7])
def test_every_number_of_targets(assigner, num_targets):
    torch.manual_seed(0)
    queries, targets = assigner.assign(
        torch.randn(5, 9), torch.randn(5, 4, 6), torch.arange(num_targets), torch.rand(num_targets, 4, 6) > 0.5
    )
    assert len(queries) == len(targets) == min(5, num_targets)
    assert len(set(queries.tolist())) == len(queries) and len(set(targets.tolist())) == len(targets)


def test_masks_are_matched_with_their_targets(assigner):
    masks = torch.eye(3)[:, None].repeat(1, 4, 1) > 0
    logits = (masks[[2, 0, 1]].float() * 2 - 1) * 9
    queries, targets = assigner.assign(torch.zeros(3, 4), logits, torch.arange(3), masks)
    assert queries.tolist() == [0, 1, 2] and targets.tolist() == [2, 0, 1]


def test_extremes_of_half_precision_stay_finite(assigner):
    queries, _ = assigner.assign(
        torch.zeros(2, 3).half(), torch.full((2, 4, 4), 60000.0).half(), torch.tensor([1]), torch.ones(1, 4, 4) > 0
    )
    assert len(queries) == 1


def test_nan_is_refused(assigner):
    with pytest.raises(FloatingPointError, match='not finite'):
        assigner.assign(torch.full((2, 3), torch.nan), torch.zeros(2, 4, 4), torch.tensor([0]), torch.ones(1, 4, 4) > 0)
