"""Masks at the original size, a few rows at a time."""

import torch

from mmzeg.benchmarking.reference_scorer import reference_semantic_map
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
