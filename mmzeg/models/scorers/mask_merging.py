"""Replace near-duplicate masks by their mean mask. This changes the scores; ``unique_masks`` does not."""

import numpy as np
import torch
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device


def merge_similar_masks(
    no_object_logits: Tensor, mask_logits: Tensor, iou_thr: float, is_batched: bool = False
) -> Tensor:
    """Replace each group of near-duplicate masks by the group's mean mask, which is less ragged than any of them.

    Masks are grouped greedily. The query with the lowest "no object" logit takes all later masks whose IoU with its
    mask is at least the threshold, then the next free query does. The mean is weighted by 1 - sigmoid("no object").
    Classes play no role. The host waits for the device once, to form the groups.

    Args:
        no_object_logits (Tensor): (Q,) logits of "no object".
        mask_logits (Tensor): (Q, h, w).
        iou_thr (float): In (0, 1].
        is_batched (bool): True: the means of all groups in one matrix product. False, the default: one after the other,
            which takes less memory. Both give the same masks up to rounding.

    Returns:
        Tensor: (Q, h, w) mask logits. A mask without near-duplicates keeps its logits.
    """
    # Pairwise IoU of the masks, in the order of confidence.
    order = no_object_logits.argsort(stable=True)
    masks = (mask_logits[order] > 0).flatten(1).float()
    intersection = masks @ masks.t()
    area = masks.sum(1)
    union = area[:, None] + area - intersection
    leaders = _group_leaders((intersection >= iou_thr * union.clamp(min=1)).tolist())
    if is_batched:
        return _merge_batched(no_object_logits, mask_logits, order, leaders)
    # Give every member of a group the mean mask.
    merged = mask_logits.clone()
    for leader in dict.fromkeys(leaders):
        ranks = [rank for rank, other in enumerate(leaders) if other == leader]
        if len(ranks) == 1:
            continue
        queries = order[ranks]
        weights = torch.sigmoid(-no_object_logits[queries])
        mean = torch.einsum('q,qhw->hw', weights / weights.sum(), mask_logits[queries].sigmoid())
        merged[queries] = mean.logit(eps=1e-6)
    return merged


def _group_leaders(is_similar: list[list[bool]]) -> list[int]:
    """Return for every rank the first leader that is similar, or the rank itself, which then leads a group."""
    leaders: list[int] = []
    for rank, similar in enumerate(is_similar):
        leaders.append(next((leader for leader in dict.fromkeys(leaders) if similar[leader]), rank))
    return leaders


def _merge_batched(no_object_logits: Tensor, mask_logits: Tensor, order: Tensor, leaders: list[int]) -> Tensor:
    """Return the mean mask of every query's group, from the queries' order and the leader of every rank in it."""
    rank_leaders = copy_to_device(np.array(leaders), order.device)
    query_leaders = torch.empty_like(rank_leaders).scatter_(0, order, rank_leaders)
    is_member = query_leaders[:, None] == query_leaders
    weights = is_member * torch.sigmoid(-no_object_logits)
    means = (weights / weights.sum(1, keepdim=True)) @ mask_logits.sigmoid().flatten(1)
    is_merged = is_member.sum(1) > 1
    return torch.where(is_merged[:, None, None], means.view_as(mask_logits).logit(eps=1e-6), mask_logits)
