"""The semantic map: for every class the sum of scores times masks (docs/en/method.md#semantic-map).

Two functions make it: ``assemble_semantic_map`` for a batch at the network's size, as mmseg's test loop needs it, and
``semantic_map_at_original_size`` for one image row by row. Where only labels are needed, ``label_map.label_map`` skips
the map: with ``test_cfg.return_logits=False``, and in the inferencer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.calibration import calibrate
from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import ImageSizes, valid_size
from mmzeg.models.mask_rows import mask_rows


def assemble_semantic_map(scores: Tensor, mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the semantic map of a batch at one size, not calibrated.

    Args:
        scores (Tensor): (B, Q, C) fused scores.
        mask_logits (Tensor): (B, Q, h, w).
        size (Sequence[int]): Height H and width W of the map.

    Returns:
        Tensor: (B, C, H, W), values >= 0.
    """
    masks = F.interpolate(mask_logits, size=tuple(size), mode='bilinear', align_corners=False)
    return torch.einsum('bqc,bqhw->bchw', scores, masks.sigmoid())


def semantic_map_at_original_size(
    scores: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    class_offset: Tensor,
    execution: Execution | None = None,
) -> Tensor:
    """Return the calibrated semantic map (C, H, W) of one image at its original size.

    Args:
        scores (Tensor): (Q, C) fused scores.
        mask_logits (Tensor): (Q, h, w).
        sizes (ImageSizes): Sizes of the image; the original one is (H, W).
        class_offset (Tensor): (C,) what calibration subtracts from each class.
        execution (Execution, optional): Bounds the tiles. Defaults to the device's, see ``Execution``.
    """
    tiles = [
        torch.einsum('qc,qhw->chw', scores, masks)
        for masks in mask_rows(mask_logits, sizes, scores.shape[1], execution)
    ]
    return calibrate(torch.cat(tiles, 1), class_offset)


def to_original_size(maps: Tensor, meta: dict) -> Tensor:
    """Crop the padding off maps (C, H, W) and resize them to the image's original size, as mmseg does."""
    height, width = valid_size(meta, maps)
    maps = maps[:, :height, :width]
    if maps.shape[-2:] == tuple(meta['ori_shape'][:2]):
        return maps
    return F.interpolate(maps[None], size=meta['ori_shape'][:2], mode='bilinear', align_corners=False)[0]
