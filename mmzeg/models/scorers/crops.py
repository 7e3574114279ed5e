"""What CLIP is shown of a segment (reference "Sub-images for CLIP")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_MODES = ('crop', 'mask', 'cropmask')


def crop_segments(image: Tensor, masks: Tensor, size: Sequence[int], style: str) -> Tensor:
    """Sub-images (N, 3, h, w) for CLIP, which training a CLIP for crops can share.

    Args:
        image (Tensor): (3, H, W), normalised; its padding is zero.
        masks (Tensor): (N, H, W) mask probabilities in 0..1.
        size (Sequence[int]): Height h and width w of CLIP's input, in pixels.
        style (str): ``crop``, ``mask`` or ``cropmask``.
    """
    size = tuple(size)
    if style == 'mask':
        small = F.interpolate(image[None], size=size, mode='bilinear', align_corners=False)
        inside = F.interpolate(masks[:, None], size=size, mode='bilinear', align_corners=False) > 0.5
        return small * inside
    masks = masks > 0.5
    pairs = zip(masks, mask_boxes(masks).tolist(), strict=True)
    return torch.stack([_cut(image, mask if style == 'cropmask' else None, box, size) for mask, box in pairs])


def _cut(image: Tensor, mask: Tensor | None, box: list[int], size: tuple[int, int]) -> Tensor:
    """One sub-image (3, h, w): RoIAlign (aligned, adaptive sampling) as two matrix products, rows and columns apart."""
    x0, y0, x1, y1 = box
    height, width = image.shape[-2:]
    # The first samples lie half a pixel before the box.
    rows, columns = (slice(max(first - 1, 0), last + 1) for first, last in ((y0, y1), (x0, x1)))
    part = image[:, rows, columns]
    if mask is not None:
        part = part * mask[rows, columns]
    across = _sampling(x0, x1, width, size[1], image)[:, columns]
    down = _sampling(y0, y1, height, size[0], image)[:, rows]
    return down @ (part @ across.t())


def _sampling(first: int, last: int, length: int, out: int, like: Tensor) -> Tensor:
    """(out, length) weights of RoIAlign along one axis: every bin is the mean of its bilinear samples."""
    step = (last - first) / out
    samples = max(1, -(-(last - first) // out))
    offsets = (torch.arange(out * samples, device=like.device, dtype=like.dtype) + 0.5) * (step / samples)
    # Half a pixel beyond the image its edge is taken.
    position = (first - 0.5 + offsets).clamp(0, length - 1).view(out, samples)
    low = position.floor().long()
    share = position - low
    weights = like.new_zeros(out, length).scatter_add_(1, low, (1 - share) / samples)
    return weights.scatter_add_(1, (low + 1).clamp(max=length - 1), share / samples)


def mask_probabilities(mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """(Q, H, W) in 0..1: mask logits (Q, h, w) brought up bilinearly to ``size``, then sigmoid."""
    masks = F.interpolate(mask_logits[None].float(), size=tuple(size), mode='bilinear', align_corners=False)[0]
    return masks.sigmoid()


def mask_boxes(masks: Tensor) -> Tensor:
    """(N, 4) first and last column and row (x0, y0, x1, y1) of (N, H, W) masks.

    A box without area, of an empty mask or a line of pixels, is the whole (padded) image (0, 0, W, H), as released.
    """
    height, width = masks.shape[-2:]
    columns, rows = masks.any(1), masks.any(2)

    def first_and_last(hits: Tensor) -> tuple[Tensor, Tensor]:
        hits = hits.int()
        return hits.argmax(1), hits.shape[1] - 1 - hits.flip(1).argmax(1)

    (x0, x1), (y0, y1) = first_and_last(columns), first_and_last(rows)
    boxes = torch.stack([x0, y0, x1, y1], 1)
    flat = ((x1 - x0) * (y1 - y0) == 0) | ~columns.any(1)
    return torch.where(flat[:, None], boxes.new_tensor([0, 0, width, height]), boxes)
