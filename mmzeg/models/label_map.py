"""Label maps tile by tile, without the semantic map of all classes, which need not fit into memory.

The labels equal the argmax of ``semantic_map.semantic_map_at_original_size``. ``ZegFormer.predict`` takes this way with
``test_cfg.return_logits=False``; the inferencer always does.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.mask_rows import mask_rows


@torch.no_grad()
def label_map(
    scores: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    class_offset: Tensor,
    execution: Execution | None = None,
) -> Tensor:
    """Return the class index of every pixel of one image.

    Memory is bounded by ``execution``, except for one copy of the mask logits. Time is linear in C.

    Args:
        scores (Tensor): (Q, C) fused scores.
        mask_logits (Tensor): (Q, h, w).
        sizes (ImageSizes): Sizes of the image; the original one is (H, W).
        class_offset (Tensor): (C,) what calibration subtracts from each class.
        execution (Execution, optional): Bounds the tiles. Defaults to the device's, see ``Execution``.

    Returns:
        Tensor: (H, W) int64.
    """
    tiles = _label_tiles(scores, mask_logits, sizes, class_offset, execution)
    return torch.cat([labels for labels, _, _ in tiles]).view(*sizes.original)


@torch.no_grad()
def label_and_margin_maps(
    scores: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    class_offset: Tensor,
    execution: Execution | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the class of every pixel, as ``label_map`` does, and by how much it exceeds the next class.

    Returns:
        tuple[Tensor, Tensor]: Class indices (H, W) int64, and margins (H, W) in [0, 1]: the highest minus the second
        highest calibrated value of the semantic map. With one class, its value.
    """
    label_tiles = []
    margin_tiles = []
    for labels, pixel_scores, _ in _label_tiles(scores, mask_logits, sizes, class_offset, execution):
        label_tiles.append(labels)
        margins = pixel_scores.gather(1, labels[:, None])[:, 0]
        if pixel_scores.shape[1] > 1:
            # The tile is not needed any more: remove each pixel's class, the highest of the others is the second.
            pixel_scores.scatter_(1, labels[:, None], -torch.inf)
            margins = margins - pixel_scores.max(1).values
        margin_tiles.append(margins.clamp(0, 1))
    return torch.cat(label_tiles).view(*sizes.original), torch.cat(margin_tiles).view(*sizes.original)


@torch.no_grad()
def label_and_query_maps(
    scores: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    class_offset: Tensor,
    execution: Execution | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the class of every pixel, and the query that contributes most to that class; see ``label_map``.

    Returns:
        tuple[Tensor, Tensor]: Class indices and query indices, both (H, W) int64.
    """
    label_tiles = []
    query_tiles = []
    for labels, _, masks in _label_tiles(scores, mask_logits, sizes, class_offset, execution):
        label_tiles.append(labels)
        query_tiles.append((scores[:, labels] * masks).argmax(0))
    return torch.cat(label_tiles).view(*sizes.original), torch.cat(query_tiles).view(*sizes.original)


def _label_tiles(
    scores: Tensor, mask_logits: Tensor, sizes: ImageSizes, class_offset: Tensor, execution: Execution | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield labels (N,), calibrated scores (N, C) and mask probabilities (Q, N) of N pixels at a time, row by row.

    The scores are overwritten by the next tile.
    """
    buffer = None
    for masks in mask_rows(mask_logits, sizes, scores.shape[1], execution):
        masks = masks.flatten(1)
        if buffer is None:
            # One buffer for all tiles, of which the first is the largest: the system zeroes all memory it hands out.
            buffer = scores.new_empty(masks.shape[1], scores.shape[1])
        pixel_scores = torch.addmm(-class_offset, masks.t(), scores, out=buffer[: masks.shape[1]])
        # max() is faster than argmax() in PyTorch.
        yield pixel_scores.max(1).indices, pixel_scores, masks
