"""Equal masks are encoded once. The result is exact: equal masks have equal embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Segments that GuaranteedPruning scores between two checks of which pixels are decided.
SEGMENTS_PER_ROUND = 8
# Bounds the memory of the hash to 16 MiB.
LOGITS_PER_SUM = 2**21


def unique_masks(mask_logits: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the different masks of every image, and which of them each query has.

    All empty masks count as equal, as they have the same crop: all zero, or the complete image in crop mode ``crop``.
    The host waits for the device once, to know the number of different masks of all images.

    Args:
        mask_logits (Sequence[Tensor]): (Q, h, w) of every image.

    Returns:
        list[tuple[Tensor, Tensor]]: The first of each group of equal masks (N, h, w), in the order of the queries; and
        the index (Q,) into these of every query's mask.
    """
    firsts = [first_of_equal_masks(masks) for masks in mask_logits]
    are_first = [first == torch.arange(len(first), device=first.device) for first in firsts]
    counts = torch.stack([is_first.sum() for is_first in are_first]).tolist()
    unique = []
    for masks, first, is_first, count in zip(mask_logits, firsts, are_first, counts, strict=True):
        indices = (is_first.cumsum(0) - 1)[first]
        # Without equal masks there is nothing to select.
        selected = masks if count == len(masks) else masks[select_queries(is_first, count)]
        unique.append((selected, indices))
    return unique


def masks_to_encode(mask_logits: Sequence[Tensor], is_batched: bool) -> list[tuple[Tensor, Tensor | slice]]:
    """Return the masks of every image to encode, and which of them each query has; see ``unique_masks``.

    In batched execution the few masks of a round of ``GuaranteedPruning`` are all encoded: to count the different ones,
    the host would wait.
    """
    if is_batched and max(map(len, mask_logits)) <= SEGMENTS_PER_ROUND:
        return [(masks, slice(None)) for masks in mask_logits]
    return unique_masks(mask_logits)


def first_of_equal_masks(mask_logits: Tensor) -> Tensor:
    """Return for every mask the first mask that equals it (Q,), of mask logits (Q, h, w); no wait for the device.

    Masks with equal hashes are compared. Different masks are therefore never taken for equal. Equal masks could only be
    missed where their hash is that of an earlier, different mask, which is improbable, and costs time only.
    """
    if not len(mask_logits):
        return torch.zeros(0, dtype=torch.int64, device=mask_logits.device)
    masks = mask_logits.flatten(1)
    is_empty = masks.amax(1) <= 0
    hashes = hash_masks(mask_logits).masked_fill(is_empty, 0)
    # Compare each mask with the first of the same hash.
    first = (hashes[:, None] == hashes).int().argmax(1)
    is_equal = (masks == masks[first]).all(1) | (is_empty & is_empty[first])
    queries = torch.arange(len(masks), device=masks.device)
    return torch.where(is_equal, first, queries)


def hash_masks(mask_logits: Tensor) -> Tensor:
    """Return hashes (Q,) int64 of mask logits (Q, h, w): weighted sums of the sums of a mask's rows and columns.

    The bits of each logit are read as an integer. Sums of integers do not depend on their order.
    """
    bits = mask_logits.float().view(torch.int32)
    # 64 bits: logits that differ only in their sign differ by 2^31. A CPU copies to 64 bits what it sums.
    masks_per_sum = max(1, LOGITS_PER_SUM // bits[0].numel())
    sums = [torch.cat([chunk.sum(2), chunk.sum(1)], 1) for chunk in bits.split(masks_per_sum)]
    sums = torch.cat(sums)
    generator = torch.Generator(sums.device).manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, sums.shape[1:], generator=generator, device=sums.device)
    # Products wrap around.
    return (sums * factors).sum(1)


def select_queries(is_selected: Tensor, count: int) -> Tensor:
    """Return the indices (count,) where (Q,) bool is True, ascending; no wait, as the host knows their number."""
    return is_selected.int().argsort(descending=True, stable=True)[:count]
