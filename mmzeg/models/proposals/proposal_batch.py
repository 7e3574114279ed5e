"""Class-agnostic masks of a batch of images, and how likely each is an object."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of a pixel that a binary mask covers. Its sigmoid is 1, that of the negative value 2e-9.
COVERED_LOGIT = 20.0
# Keeps objectness logits finite.
MIN_PROBABILITY = 1e-6


class ProposalError(ValueError):
    """The masks of one image of a batch cannot be read.

    Args:
        message (str): What is wrong, and with which file.
        index (int): Position of the image in the batch.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class ProposalBatch(NamedTuple):
    """Masks of a batch of images.

    Args:
        mask_logits (Tensor): (B, Q, h, w) float32, of the padded inputs.
        objectness_logits (Tensor): (B, Q) float32; the sigmoid is the probability that a mask is an object.
    """

    mask_logits: Tensor
    objectness_logits: Tensor

    @classmethod
    def of_images(cls, images: Sequence[tuple[Tensor, Tensor]]) -> 'ProposalBatch':
        """Stack mask logits (Q, h, w) and objectness logits (Q,) of images that differ in Q.

        Images with fewer masks get empty ones with the lowest objectness.
        """
        num_queries = max(len(objectness) for _, objectness in images)
        mask_logits = []
        objectness_logits = []
        for masks, objectness in images:
            missing = num_queries - len(objectness)
            mask_logits.append(F.pad(masks, (0, 0, 0, 0, 0, missing), value=-COVERED_LOGIT))
            objectness_logits.append(F.pad(objectness, (0, missing), value=-COVERED_LOGIT))
        return cls(torch.stack(mask_logits), torch.stack(objectness_logits))


def binary_proposals(
    masks: Iterable[tuple[Tensor, float]],
    mask_size: Sequence[int],
    valid_size: Sequence[int],
    padded_size: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return mask logits and objectness logits of an image's binary masks.

    The pixels that no mask covers are one more mask, with the highest objectness, so that every pixel is in a segment.
    An image without masks is therefore one segment.

    Args:
        masks (Iterable[tuple[Tensor, float]]): Masks (H, W) bool, each with a score in 0..1.
        mask_size (Sequence[int]): H and W.
        valid_size (Sequence[int]): Height and width to which masks are resized: of the image in the padded input.
        padded_size (Sequence[int]): Height and width of the padded input.
        device (torch.device): Where the logits will be.

    Returns:
        tuple[Tensor, Tensor]: Mask logits (Q, *padded_size) and objectness logits (Q,).
    """
    uncovered = torch.ones(*mask_size, dtype=torch.bool)
    mask_logits = []
    scores = []
    # Masks are resized one by one: all of them at the image's size might not fit into memory.
    for mask, score in masks:
        uncovered &= ~mask
        mask_logits.append(_mask_logits(mask.to(device), valid_size))
        scores.append(score)
    if uncovered.any() or not scores:
        mask_logits.append(_mask_logits(uncovered.to(device), valid_size))
        scores.append(1.0)
    bottom = padded_size[0] - valid_size[0]
    right = padded_size[1] - valid_size[1]
    padded = F.pad(torch.stack(mask_logits), (0, right, 0, bottom), value=-COVERED_LOGIT)
    return padded, torch.tensor(scores, device=device).logit(eps=MIN_PROBABILITY)


def _mask_logits(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Return the logits (h, w) of a binary mask (H, W), resized to a size."""
    probs = mask.float()
    if tuple(mask.shape) != tuple(size):
        probs = F.interpolate(probs[None, None], size=tuple(size), mode='bilinear', antialias=True)[0, 0]
    return (2 * probs - 1) * COVERED_LOGIT
