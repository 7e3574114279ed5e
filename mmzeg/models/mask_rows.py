"""Masks at the original image size, a few rows at a time: memory stays bounded for any image size and class number."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.image_sizes import ImageSizes

# Numbers that the classes, or the masks, of one tile of rows may take: 4 MB, which fit into a CPU's cache.
MAX_TILE_NUMEL = 1 << 20


def mask_rows(mask_logits: Tensor, sizes: ImageSizes, num_classes: int) -> Iterator[Tensor]:
    """Yield mask probabilities (Q, n, W) at the original size, n rows at a time, from the first row to the last.

    The semantic map is r(c) = sum over q of score(q, c) * mask(q) at every pixel. Resizing is linear. Resizing the Q
    masks before the sum therefore gives the same map as resizing C class maps after it, see
    docs/en/method.md#semantic-map.

    Args:
        mask_logits (Tensor): (Q, h, w).
        sizes (ImageSizes): Sizes of the image; the original one is (H, W).
        num_classes (int): C. The larger of C and Q decides how many rows a tile has.
    """
    height, width = sizes.original
    valid_height, valid_width = sizes.valid
    padded_height, padded_width = sizes.padded
    rows_per_tile = max(1, MAX_TILE_NUMEL // (max(num_classes, len(mask_logits)) * max(width, padded_width)))
    # Channels last: a pixel's mask values lie next to each other, which resizes and multiplies fastest.
    maps = mask_logits.movedim(0, -1).contiguous()
    to_padded = RowResizer(len(maps), padded_height, maps.dtype)
    to_original = RowResizer(valid_height, height, maps.dtype)
    is_resized = tuple(sizes.valid) != (height, width)
    for first in range(0, height, rows_per_tile):
        rows = torch.arange(first, min(first + rows_per_tile, height), device=maps.device)
        # Rows of the padded input from which these rows are interpolated.
        source_rows = to_original.source_span(rows) if is_resized else rows
        masks = _resize_width(to_padded(maps, source_rows), padded_width).sigmoid_()[:, :valid_width]
        if is_resized:
            masks = _resize_width(to_original(masks, rows, source_rows[0]), width)
        yield masks.movedim(-1, 0)


class RowResizer:
    """Bilinear resizing along the height for chosen rows, equal to ``F.interpolate`` without aligned corners.

    Args:
        source_height (int): Rows of the map before resizing.
        target_height (int): Rows of the map after resizing.
        dtype (torch.dtype): Type of the map; ``F.interpolate`` computes positions in it.
    """

    def __init__(self, source_height: int, target_height: int, dtype: torch.dtype) -> None:
        self.source_height = source_height
        self.target_height = target_height
        self.dtype = dtype

    def __call__(self, maps: Tensor, rows: Tensor, first_row: Tensor | int = 0) -> Tensor:
        """Return the chosen rows of the resized map.

        Args:
            maps (Tensor): (h, W, C), a map before resizing, from its row ``first_row`` on.
            rows (Tensor): (n,) row indices after resizing.
            first_row (Tensor | int): Index of the first row that ``maps`` holds. Defaults to 0.

        Returns:
            Tensor: (n, W, C).
        """
        low, high, weight = self._neighbours(rows)
        return torch.lerp(maps[low - first_row], maps[high - first_row], weight[:, None, None])

    def source_span(self, rows: Tensor) -> Tensor:
        """Return the indices of all source rows between the first and the last that ``rows`` are interpolated from."""
        low, high, _ = self._neighbours(rows)
        return torch.arange(int(low[0]), int(high[-1]) + 1, device=rows.device)

    def _neighbours(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two source rows that each row lies between, and the weight of the second."""
        scale = self.source_height / self.target_height
        position = ((rows.to(self.dtype) + 0.5) * scale - 0.5).clamp(min=0)
        low = position.long().clamp(max=self.source_height - 1)
        high = (low + 1).clamp(max=self.source_height - 1)
        return low, high, position - low


def _resize_width(maps: Tensor, width: int) -> Tensor:
    """Resize maps (n, w, C) bilinearly to (n, width, C)."""
    planes = maps[None].permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(len(maps), width), mode='bilinear', align_corners=False)
    return resized[0].movedim(0, -1)
