"""Crops of segments and their masks, as OVSeg cuts them: bicubic, not antialiased; the mask to the nearest pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.scorers.crops import first_and_last

# Coefficient of the cubic convolution in PyTorch's bicubic interpolation.
CUBIC_COEFFICIENT = -0.75


def crop_with_masks(
    image: Tensor, masks: Tensor, size: Sequence[int], is_batched: bool = False
) -> tuple[Tensor, Tensor]:
    """Cut the boxes of masks out of an image, with the mean color outside the mask.

    Args:
        image (Tensor): (3, H, W), normalized: the mean color is zero.
        masks (Tensor): (n, H, W) bool. A mask that covers no pixel gets a crop of zeros.
        size (Sequence[int]): Height h and width w of the crops.
        is_batched (bool): True: all crops in the same few operations, whose box coordinates stay on the device, from n
            masked images of full size. False, the default: one crop after the other, each from the pixels of its box.
            Both give the same crops up to rounding.

    Returns:
        tuple[Tensor, Tensor]: Crops (n, 3, h, w) and their masks (n, 1, h, w), 0 or 1.
    """
    rows = first_and_last(masks.any(2))
    columns = first_and_last(masks.any(1))
    if is_batched:
        return _crop_batched(image, masks, rows, columns, size)
    crops = []
    crop_masks = []
    # One transfer for all boxes.
    for mask, (y0, y1, x0, x1) in zip(masks, torch.stack([*rows, *columns], 1).tolist(), strict=True):
        box = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        box_mask = mask[box].to(image.dtype)[None, None]
        crop = image[None, :, box[0], box[1]] * box_mask
        crops.append(F.interpolate(crop, size=tuple(size), mode='bicubic', align_corners=False))
        crop_masks.append(F.interpolate(box_mask, size=tuple(size), mode='nearest'))
    return torch.cat(crops), torch.cat(crop_masks)


def _crop_batched(
    image: Tensor, masks: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the crops and their masks; ``rows`` and ``columns`` are first and last indices (n,) of the boxes."""
    height, width = masks.shape[1:]
    # Resizing a box is a product with a matrix on either side.
    row_weights = _bicubic_weights(*rows, height, size[0], image.dtype)[:, None]
    column_weights = _bicubic_weights(*columns, width, size[1], image.dtype)[:, None]
    masked_images = image * masks[:, None]
    crops = row_weights @ (masked_images @ column_weights.transpose(2, 3))
    # The nearest pixel of each pixel of the crop.
    row_indices = _nearest_indices(*rows, size[0])[:, :, None].expand(-1, -1, width)
    column_indices = _nearest_indices(*columns, size[1])[:, None].expand(-1, size[0], -1)
    crop_masks = masks.gather(1, row_indices).gather(2, column_indices)
    return crops, crop_masks[:, None].to(image.dtype)


def _bicubic_weights(first: Tensor, last: Tensor, length: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return the weights (n, size, length) that resize pixels ``first`` to ``last`` (n,) of an axis to ``size``."""
    steps = torch.arange(size, device=first.device, dtype=dtype)
    scales = (last - first + 1).to(dtype)[:, None] / size
    positions = scales * (steps + 0.5) - 0.5
    lows = positions.floor()
    weights = torch.zeros(len(first), size, length, device=first.device, dtype=dtype)
    # Four pixels around each position; those outside the box are its edge pixels.
    for offset in (-1, 0, 1, 2):
        indices = (first[:, None] + lows.long() + offset).clamp(first[:, None], last[:, None])
        distances = (positions - lows - offset).abs()
        weights.scatter_add_(2, indices[:, :, None], _cubic(distances, is_near=offset in (0, 1))[:, :, None])
    return weights


def _cubic(distance: Tensor, is_near: bool) -> Tensor:
    """Return the cubic convolution kernel at distances up to 1 (near), or from 1 to 2."""
    a = CUBIC_COEFFICIENT
    if is_near:
        return ((a + 2) * distance - (a + 3)) * distance**2 + 1
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a


def _nearest_indices(first: Tensor, last: Tensor, size: int) -> Tensor:
    """Return the indices (n, size) of the pixels that resizing pixels ``first`` to ``last`` (n,) to ``size`` takes."""
    # In float32, as PyTorch rounds.
    lengths = (last - first + 1)[:, None]
    steps = torch.arange(size, device=first.device, dtype=torch.float32)
    offsets = (steps * (lengths.float() / size)).long()
    return first[:, None] + offsets.minimum(lengths - 1)
