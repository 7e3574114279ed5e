"""Masks at the original size, a few rows at a time."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmzeg.benchmarking.reference_scorer import reference_semantic_map
from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.mask_rows import mask_rows


def test_rows_equal_the_masks_at_the_original_size(monkeypatch):
    monkeypatch.setattr('mmzeg.models.execution.TILED_TILE_NUMEL', 3000)
    logits = torch.randn(9, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded, valid, original = (64, 96), (61, 90), (200, 310)
    tiles = list(mask_rows(logits, ImageSizes(padded, valid, original), 1))
    expected = reference_semantic_map(
        torch.eye(9, dtype=torch.float64), logits, padded, valid, original, torch.zeros(9)
    )
    assert len(tiles) == 200
    torch.testing.assert_close(torch.cat(tiles, 1), expected, atol=1e-14, rtol=0)


class LargestTensor(TorchDispatchMode):
    """Measures the tensor of most numbers that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if torch.is_tensor(result):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize('valid, original', [((640, 640), (160, 160)), ((160, 160), (640, 640)), ((320, 320),) * 2])
def test_no_tensor_is_larger_than_a_tile_may_be(valid, original):
    """However the image was resized; two rows more are read at the edges of a tile."""
    logits = torch.randn(100, 40, 40, generator=torch.Generator().manual_seed(0))
    execution = Execution('batched', map_mib=64)
    # A fourth of the bound, in float32 numbers.
    max_numel = 64 * 2**20 // 16
    row = 100 * max(*valid, *original)
    with LargestTensor() as largest:
        tiles = list(mask_rows(logits, ImageSizes(valid, valid, original), 1, execution))
    assert len(tiles) > 1 and largest.numel <= max_numel + 2 * row
