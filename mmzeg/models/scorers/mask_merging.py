"""One thing found several times is shown to CLIP once."""

import torch
from torch import Tensor


def merge_similar_masks(no_object: Tensor, mask_logits: Tensor, iou: float) -> Tensor:
    """Give near-duplicates the mask that they agree on, which is less ragged than any of them.

    Beginning with what is least like "no object", each takes the later masks that have at least this IoU with its own.
    All of them get their mean mask, weighted by how unlike "no object" each is, whatever the names that it may have.

    Args:
        no_object (Tensor): (Q,) logits of "no object".
        mask_logits (Tensor): (Q, h, w).
        iou (float): In (0, 1].

    Returns:
        Tensor: (Q, h, w) mask logits; those of a mask without duplicates are its own.
    """
    order = no_object.argsort(stable=True)
    inside = (mask_logits[order] > 0).flatten(1).float()
    common, area = inside @ inside.t(), inside.sum(1)
    alike = (common >= iou * (area[:, None] + area - common).clamp(min=1)).tolist()
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(alike):
        leader = next((other for other in groups if row[other]), place)
        groups.setdefault(leader, []).append(place)
    merged = mask_logits.clone()
    for group in (order[places] for places in groups.values() if len(places) > 1):
        weights = torch.sigmoid(-no_object[group])
        mean = torch.einsum('q,qhw->hw', weights / weights.sum(), mask_logits[group].sigmoid())
        merged[group] = mean.logit(eps=1e-6)
    return merged
