"""Masks on the grid of an image encoder: which of its cells (patches of a transformer) lie under a mask."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device

# How masks come to the grid.
MASK_RESIZES = ('area', 'bilinear', 'bilinear_logits')


def masks_on_grid(
    mask_logits: Tensor,
    image_size: Sequence[int],
    valid_size: tuple[int, int],
    grid: Sequence[int],
    resize: str,
    keep_best_cell: bool,
) -> Tensor:
    """Return which cells of a grid over the image lie under each mask.

    Args:
        mask_logits (Tensor): (Q, h, w) of the padded image, any resolution.
        image_size (Sequence[int]): Height and width of the padded image.
        valid_size (tuple[int, int]): Height and width of the image within the padding, which the grid covers.
        grid (Sequence[int]): Rows and columns of the grid.
        resize (str): ``area``: cells whose mean mask probability is above 0.5. ``bilinear``: mask probabilities at the
            image's size, resized bilinearly without antialiasing, 0.5 or more. ``bilinear_logits``: mask logits resized
            in this way, above 0.
        keep_best_cell (bool): A mask without any such cell keeps the cell of its highest value.

    Returns:
        Tensor: (Q, rows, columns) bool.
    """
    grid = tuple(grid)
    if not len(mask_logits):
        return torch.zeros(0, *grid, dtype=torch.bool, device=mask_logits.device)
    if resize == 'bilinear':
        values = _bilinear_probabilities(mask_logits, tuple(image_size), valid_size, grid)
        on_grid = values >= 0.5
    else:
        # Crop the padding off.
        rows = max(1, round(valid_size[0] * mask_logits.shape[-2] / image_size[-2]))
        columns = max(1, round(valid_size[1] * mask_logits.shape[-1] / image_size[-1]))
        logits = mask_logits[None, :, :rows, :columns].float()
        if resize == 'area':
            values = F.adaptive_avg_pool2d(logits.sigmoid(), grid)[0]
            on_grid = values > 0.5
        else:
            values = F.interpolate(logits, size=grid, mode='bilinear', align_corners=False)[0]
            on_grid = values > 0
    if not keep_best_cell:
        return on_grid
    best_cell = values.flatten(1).argmax(1, keepdim=True)
    fallback = torch.zeros_like(on_grid).flatten(1).scatter_(1, best_cell, True).view_as(on_grid)
    has_cells = on_grid.flatten(1).any(1)[:, None, None]
    return torch.where(has_cells, on_grid, fallback)


def dilate_cells(on_grid: Tensor, dilation: int) -> Tensor:
    """Dilate masks (Q, h, w) bool by a number of cells on every side."""
    if not dilation:
        return on_grid
    window = 2 * dilation + 1
    return F.max_pool2d(on_grid[None].float(), window, stride=1, padding=dilation)[0] > 0


def _bilinear_probabilities(
    mask_logits: Tensor, image_size: tuple[int, int], valid_size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Return mask probabilities (Q, rows, columns): logits to the image's size, sigmoid, then to the grid.

    Masks at the image's size would take hundreds of megabytes, and the grid samples few of their pixels. Only these are
    computed, as products with matrices of bilinear weights.
    """
    logits = mask_logits.float()
    height, width = valid_size
    if logits.shape[-2:] == image_size:
        probs = logits[None, :, :height, :width].sigmoid()
        return F.interpolate(probs, size=grid, mode='bilinear', align_corners=False)[0]
    device = logits.device
    up_rows, down_rows = _sampling_weights(logits.shape[-2], image_size[0], height, grid[0], device)
    up_columns, down_columns = _sampling_weights(logits.shape[-1], image_size[1], width, grid[1], device)
    probs = (up_rows @ logits @ up_columns.t()).sigmoid()
    return down_rows @ probs @ down_columns.t()


@lru_cache(maxsize=64)
def _sampling_weights(
    length: int, image_length: int, valid_length: int, num_cells: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return, along one axis, weights from mask to sampled pixels (n, length), and from these to cells (cells, n)."""
    to_image = _bilinear_weights(length, image_length)[:valid_length]
    to_cells = _bilinear_weights(valid_length, num_cells)
    is_sampled = to_cells.any(0)
    return copy_to_device(to_image[is_sampled], device), copy_to_device(to_cells[:, is_sampled], device)


def _bilinear_weights(length: int, new_length: int) -> np.ndarray:
    """Return the weights (new_length, length) float32 of a bilinear resize along one axis, without antialiasing."""
    centers = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    positions = centers.clip(0, length - 1)
    low = np.floor(positions).astype(np.int64)
    high_weight = (positions - low).astype(np.float32)
    rows = np.arange(new_length)
    weights = np.zeros((new_length, length), np.float32)
    weights[rows, low] = 1 - high_weight
    weights[rows, np.minimum(low + 1, length - 1)] += high_weight
    return weights
