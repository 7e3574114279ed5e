"""Equal masks are encoded once. The result is exact: equal masks have equal embeddings."""

import torch
from torch import Tensor


def unique_masks(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different masks of an image, and which of them each query has.

    All empty masks count as equal, as they have the same crop: all zero, or the complete image in crop mode ``crop``.

    Args:
        mask_logits (Tensor): (Q, h, w).

    Returns:
        tuple[Tensor, Tensor]: The first of each group of equal masks (N, h, w), in the order of the queries; and the
        index (Q,) into these of every query's mask.
    """
    masks = mask_logits.flatten(1)
    # Give all empty masks the same logits.
    masks = masks.where(masks.amax(1, keepdim=True) > 0, -masks.new_ones(()))
    _, group = masks.unique(dim=0, return_inverse=True)
    # The first query of every query's group.
    queries = torch.arange(len(masks), device=masks.device)
    first = torch.full_like(queries, len(masks)).scatter_reduce(0, group, queries, 'amin')[group]
    is_first = first == queries
    return mask_logits[is_first], (is_first.cumsum(0) - 1)[first]
