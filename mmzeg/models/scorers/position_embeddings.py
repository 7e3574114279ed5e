"""Position embeddings for another input size than the one that CLIP was trained with."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

_FIELDS = {'mode': ('bilinear', 'bicubic'), 'align_corners': (True, False), 'antialias': (True, False)}


def check_position_resize(resize: Mapping[str, object]) -> dict:
    """Return the arguments of ``torch.nn.functional.interpolate`` by which position embeddings are resized.

    Args:
        resize (Mapping): ``mode`` (``bilinear`` or ``bicubic``), ``align_corners`` and ``antialias`` (bool, each False
            by default).

    Raises:
        ValueError: An unknown field or value.
    """
    resize = dict(resize)
    for name, value in resize.items():
        if name not in _FIELDS or value not in _FIELDS[name]:
            raise ValueError(
                f'scorer position_resize has {name}={value!r}: use mode (bilinear or bicubic), align_corners and '
                'antialias (True or False)'
            )
    return dict(mode='bicubic', align_corners=False) | resize


def resize_positions(positions: Tensor, grid: Sequence[int], new_grid: Sequence[int], resize: dict) -> Tensor:
    """Resize position embeddings (h * w, c) of a grid (h, w) to another grid; float32 if they change."""
    if tuple(grid) == tuple(new_grid):
        return positions
    maps = positions.float().t().view(1, -1, *grid)
    return F.interpolate(maps, size=tuple(new_grid), **resize)[0].flatten(1).t()
