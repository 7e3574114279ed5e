"""How a test is cut into tensor operations: the one place that decides it (docs/en/speed.md#execution).

A CPU is fast where the values of an operation fit into its caches: small tiles of the label map, few crops at a time.
A GPU is fast where an operation is large and the host never waits for its result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

MODES = ('auto', 'tiled', 'batched')
# Crops per pass of CLIP: on a CPU few enough that a layer's activations fit into its cache.
TILED_CROPS = 6
BATCHED_CROPS = 256
# Numbers of the largest tensor of a tile of the label map: 4 MiB fit into a CPU's cache.
TILED_TILE_NUMEL = 1 << 20
# Default memory of a tile of the label map.
BATCHED_MAP_MIB = 512
# Tensors of the largest one's size that a tile of the label map needs at once.
TENSORS_PER_TILE = 4
# Default memory of a chunk of crops: a part of a GPU's free memory, or a constant elsewhere.
FREE_MEMORY_FRACTION = 0.5
BATCHED_CROPS_MIB = 2048


@dataclass(frozen=True)
class Execution:
    """How inference is cut into tensor operations. Both strategies give the same results, up to rounding.

    Args:
        mode (str): ``tiled``: tiles and chunks that fit into a CPU's caches. ``batched``: as few and as large
            operations as memory allows, for GPUs. ``auto``: tiled on a CPU, batched elsewhere. Defaults to ``auto``.
        crops_mib (float, optional): Memory that the crops in one pass of CLIP may take, in MiB. Defaults to half of a
            GPU's free memory, and to 2048 on a CPU. A pass has at most 6 crops if tiled, 256 if batched.
        map_mib (float, optional): Memory that a tile of the label map may take, in MiB. Defaults to 16 if tiled, 512 if
            batched; then a tile has at least one row, whatever memory that takes.

    Raises:
        ValueError: An unknown mode, or a bound that is not a finite number above 0.
    """

    mode: str = 'auto'
    crops_mib: float | None = None
    map_mib: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'model.execution mode {self.mode!r} is unknown: use one of {", ".join(MODES)}')
        for name in ('crops_mib', 'map_mib'):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise ValueError(f'model.execution {name} must be a number of MiB above 0, or None, got {value!r}')

    @classmethod
    def build(cls, config: str | dict | Execution | None) -> Execution:
        """Build from a config's ``execution``: a mode, or a dict of the constructor's arguments.

        Raises:
            ValueError: An unknown field; or as the constructor.
        """
        if isinstance(config, cls):
            return config
        if config is None or isinstance(config, str):
            return cls(config or 'auto')
        fields = dict(config)
        unknown = sorted(map(str, fields.keys() - {'mode', 'crops_mib', 'map_mib'}))
        if unknown:
            raise ValueError(
                f'model.execution has no field {unknown[0]!r}: it takes mode, crops_mib and map_mib, or only a mode'
            )
        return cls(**fields)

    def is_batched(self, device: torch.device) -> bool:
        """Return whether operations are as large as memory allows."""
        return self.mode == 'batched' or self.mode == 'auto' and device.type != 'cpu'

    def crops_per_chunk(self, bytes_per_crop: int, device: torch.device) -> int:
        """Return how many crops go through CLIP together.

        Raises:
            ValueError: ``crops_mib`` is too small for one crop.
        """
        max_crops = BATCHED_CROPS if self.is_batched(device) else TILED_CROPS
        if self.crops_mib is None:
            if not self.is_batched(device):
                return max_crops
            return max(1, min(max_crops, _crops_bytes(device) // bytes_per_crop))
        num_crops = int(self.crops_mib * 2**20) // bytes_per_crop
        if num_crops < 1:
            raise ValueError(
                f'model.execution crops_mib={self.crops_mib} is too small for one crop: set it to '
                f'{-(-bytes_per_crop // 2**20)} or more'
            )
        return min(max_crops, num_crops)

    def rows_per_tile(self, numel_per_row: int, device: torch.device) -> int:
        """Return how many rows of the label map are computed together.

        Args:
            numel_per_row (int): Numbers that a row has in the largest tensor.
            device (torch.device): Where the map is computed.

        Raises:
            ValueError: ``map_mib`` is too small for one row.
        """
        if self.map_mib is None:
            max_numel = TILED_TILE_NUMEL
            if self.is_batched(device):
                max_numel = _tile_numel(BATCHED_MAP_MIB)
            return max(1, max_numel // numel_per_row)
        num_rows = _tile_numel(self.map_mib) // numel_per_row
        if num_rows < 1:
            mib_per_row = -(-4 * TENSORS_PER_TILE * numel_per_row // 2**20)
            raise ValueError(
                f'model.execution map_mib={self.map_mib} is too small for one row of the label map: set it to '
                f'{mib_per_row} or more'
            )
        return num_rows


def _crops_bytes(device: torch.device) -> int:
    """Return the default memory of a chunk of crops, in bytes."""
    if device.type != 'cuda':
        return BATCHED_CROPS_MIB * 2**20
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that PyTorch holds and does not use is free as well.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(FREE_MEMORY_FRACTION * (free + unused))


def _tile_numel(mib: float) -> int:
    """Return how many float32 numbers the largest tensor of a tile may have."""
    return int(mib * 2**20) // (4 * TENSORS_PER_TILE)
