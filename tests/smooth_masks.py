"""Random masks with smooth edges."""

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_mask_logits(num_masks: int, height: int, width: int) -> Tensor:
    """Return mask logits (N, h, w), always the same, with areas above and below 0."""
    coarse = torch.randn(1, num_masks, 5, 5, generator=torch.Generator().manual_seed(0))
    return 6 * F.interpolate(coarse, size=(height, width), mode='bicubic')[0]
