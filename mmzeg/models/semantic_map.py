"""The semantic map: every class's sum of scores times masks, at the network's and at the picture's size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.image_sizes import valid_size


def assemble_semantic_map(scores: Tensor, mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """Semantic map (B, C, H, W) at ``size``, not calibrated, of scores (B, Q, C) and mask logits (B, Q, h, w)."""
    masks = F.interpolate(mask_logits, size=tuple(size), mode='bilinear', align_corners=False)
    return torch.einsum('bqc,bqhw->bchw', scores, masks.sigmoid())


def to_original_size(maps: Tensor, meta: dict) -> Tensor:
    """Maps (C, H, W) of a padded input without the padding and at the picture's own size, as mmseg does it."""
    height, width = valid_size(meta, maps)
    maps = maps[:, :height, :width]
    if maps.shape[-2:] == tuple(meta['ori_shape'][:2]):
        return maps
    return F.interpolate(maps[None], size=meta['ori_shape'][:2], mode='bilinear', align_corners=False)[0]
