"""Ground truth of a training image as labels and masks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class SegmentTargets(NamedTuple):
    """Ground truth of one image: one target per class that is present.

    Args:
        labels (Tensor): (N,) class indices.
        masks (Tensor): (N, H, W) bool.
        is_labelled (Tensor, optional): (H, W) bool, pixels with a class. None: unlabelled pixels count as background.
    """

    labels: Tensor
    masks: Tensor
    is_labelled: Tensor | None


@torch.no_grad()
def lie_on_unlabelled(mask_logits: Tensor, targets: Sequence[SegmentTargets]) -> Tensor:
    """Return which masks have most of their pixels unlabelled: whether they show an object is not known.

    Args:
        mask_logits (Tensor): (B, Q, h, w).
        targets (Sequence[SegmentTargets]): Of the B images, with ``is_labelled``.

    Returns:
        Tensor: (B, Q) bool.
    """
    is_mostly_unlabelled = []
    for masks, target in zip(mask_logits > 0, targets, strict=True):
        is_labelled = F.interpolate(target.is_labelled[None, None].float(), size=masks.shape[-2:])[0, 0]
        num_unlabelled = (masks & (is_labelled == 0)).sum((1, 2))
        is_mostly_unlabelled.append(2 * num_unlabelled > masks.sum((1, 2)))
    return torch.stack(is_mostly_unlabelled)
