"""The semantic map row by row equals the batched one, resized as in mmseg's test."""

import pytest
import torch

from mmzeg.models.calibration import calibrate
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.semantic_map import assemble_semantic_map, semantic_map_at_original_size, to_original_size


@pytest.mark.parametrize('max_tile_numel', [1, 3000, 1 << 22])
@pytest.mark.parametrize(
    'padding, original',
    [
        ((0, 0, 0, 0), (64, 96)),
        ((0, 0, 0, 14), (50, 96)),
        ((0, 6, 0, 3), (200, 310)),
        ((0, 6, 0, 3), (33, 47)),
    ],
)
def test_row_by_row_equals_the_batched_map(monkeypatch, max_tile_numel, padding, original):
    monkeypatch.setattr('mmzeg.models.execution.TILED_TILE_NUMEL', max_tile_numel)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 13, generator=generator, dtype=torch.float64)
    mask_logits = 4 * torch.randn(9, 16, 24, generator=generator, dtype=torch.float64)
    class_offset = 0.2 * (torch.arange(13) % 2).double()
    inputs = torch.zeros(3, 64, 96)
    meta = dict(ori_shape=original, img_padding_size=padding)
    batched_map = assemble_semantic_map(scores[None], mask_logits[None], inputs.shape[-2:])
    expected = calibrate(to_original_size(batched_map[0], meta), class_offset)
    semantic_map = semantic_map_at_original_size(scores, mask_logits, ImageSizes.of(inputs, meta), class_offset)
    assert semantic_map.shape == (13, *original)
    torch.testing.assert_close(semantic_map, expected, atol=1e-12, rtol=0)
