"""Replace near-duplicate masks by their mean mask. This changes the scores; ``unique_masks`` does not."""

import torch
from torch import Tensor


def merge_similar_masks(no_object_logits: Tensor, mask_logits: Tensor, iou_thr: float) -> Tensor:
    """Replace each group of near-duplicate masks by the group's mean mask, which is less ragged than any of them.

    Masks are grouped greedily. The query with the lowest "no object" logit takes all later masks whose IoU with its
    mask is at least the threshold, then the next free query does. The mean is weighted by 1 - sigmoid("no object").
    Classes play no role.

    Args:
        no_object_logits (Tensor): (Q,) logits of "no object".
        mask_logits (Tensor): (Q, h, w).
        iou_thr (float): In (0, 1].

    Returns:
        Tensor: (Q, h, w) mask logits. A mask without near-duplicates keeps its logits.
    """
    # Pairwise IoU of the masks, in the order of confidence.
    order = no_object_logits.argsort(stable=True)
    masks = (mask_logits[order] > 0).flatten(1).float()
    intersection = masks @ masks.t()
    area = masks.sum(1)
    union = area[:, None] + area - intersection
    is_similar = (intersection >= iou_thr * union.clamp(min=1)).tolist()
    # Assign each mask to the first group whose leader is similar, else let it lead a group.
    groups: dict[int, list[int]] = {}
    for rank, similar in enumerate(is_similar):
        leader = next((other for other in groups if similar[other]), rank)
        groups.setdefault(leader, []).append(rank)
    # Give every member of a group the mean mask.
    merged = mask_logits.clone()
    for ranks in groups.values():
        if len(ranks) == 1:
            continue
        queries = order[ranks]
        weights = torch.sigmoid(-no_object_logits[queries])
        mean = torch.einsum('q,qhw->hw', weights / weights.sum(), mask_logits[queries].sigmoid())
        merged[queries] = mean.logit(eps=1e-6)
    return merged
