"""Masks at the original image size, tile by tile: memory stays bounded for any image size and class number."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device
from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import ImageSizes


def mask_rows(
    mask_logits: Tensor, sizes: ImageSizes, num_classes: int, execution: Execution | None = None
) -> Iterator[Tensor]:
    """Yield mask probabilities (Q, n, W) at the original size, n rows at a time, from the first row to the last.

    The semantic map is r(c) = sum over q of score(q, c) * mask(q) at every pixel. Resizing is linear. Resizing the Q
    masks before the sum therefore gives the same map as resizing C class maps after it, see
    docs/en/method.md#semantic-map.

    Args:
        mask_logits (Tensor): (Q, h, w).
        sizes (ImageSizes): Sizes of the image; the original one is (H, W).
        num_classes (int): C. The larger of C and Q decides how many rows a tile has.
        execution (Execution, optional): Bounds a tile. Defaults to the device's, see ``Execution``.
    """
    height, width = sizes.original
    valid_height, valid_width = sizes.valid
    padded_height, padded_width = sizes.padded
    device = mask_logits.device
    numel_per_row = max(num_classes, len(mask_logits)) * max(width, padded_width)
    rows_per_tile = (execution or Execution()).rows_per_tile(numel_per_row, device)
    # Channels last: a pixel's mask values lie next to each other, which resizes and multiplies fastest.
    maps = mask_logits.movedim(0, -1).contiguous()
    to_padded = RowResizer(len(maps), padded_height, maps.dtype, device)
    to_original = RowResizer(valid_height, height, maps.dtype, device)
    is_resized = tuple(sizes.valid) != (height, width)
    for first in range(0, height, rows_per_tile):
        rows = slice(first, min(first + rows_per_tile, height))
        # Rows of the padded input from which these rows are interpolated.
        source_rows = to_original.source_span(rows) if is_resized else rows
        masks = _resize_width(to_padded(maps, source_rows), padded_width).sigmoid_()[:, :valid_width]
        if is_resized:
            masks = _resize_width(to_original(masks, rows, source_rows.start), width)
        yield masks.movedim(-1, 0)


class RowResizer:
    """Bilinear resizing along the height for chosen rows, equal to ``F.interpolate`` without aligned corners.

    Which rows are read is computed on the host: nothing waits for the device.

    Args:
        source_height (int): Rows of the map before resizing.
        target_height (int): Rows of the map after resizing.
        dtype (torch.dtype): Type of the map; ``F.interpolate`` computes positions in it.
        device (torch.device): Where the maps are.
    """

    def __init__(self, source_height: int, target_height: int, dtype: torch.dtype, device: torch.device) -> None:
        # The two source rows that each row lies between, and the weight of the second.
        real = np.dtype(str(dtype).removeprefix('torch.')).type
        scale = real(source_height / target_height)
        position = ((np.arange(target_height, dtype=real) + real(0.5)) * scale - real(0.5)).clip(min=0)
        low = np.minimum(position.astype(np.int64), source_height - 1)
        high = np.minimum(low + 1, source_height - 1)
        self._low_rows = low.tolist()
        self._high_rows = high.tolist()
        self._low = copy_to_device(low, device)
        self._high = copy_to_device(high, device)
        self._weight = copy_to_device(position - low.astype(real), device)

    def __call__(self, maps: Tensor, rows: slice, first_row: int = 0) -> Tensor:
        """Return the chosen rows of the resized map.

        Args:
            maps (Tensor): (h, W, C), a map before resizing, from its row ``first_row`` on.
            rows (slice): The n rows after resizing.
            first_row (int): Index of the first row that ``maps`` holds. Defaults to 0.

        Returns:
            Tensor: (n, W, C).
        """
        low = maps[self._low[rows] - first_row]
        high = maps[self._high[rows] - first_row]
        return torch.lerp(low, high, self._weight[rows, None, None])

    def source_span(self, rows: slice) -> slice:
        """Return all source rows between the first and the last that ``rows`` are interpolated from."""
        return slice(self._low_rows[rows.start], self._high_rows[rows.stop - 1] + 1)


def _resize_width(maps: Tensor, width: int) -> Tensor:
    """Resize maps (n, w, C) bilinearly to (n, width, C)."""
    planes = maps[None].permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(len(maps), width), mode='bilinear', align_corners=False)
    return resized[0].movedim(0, -1)
