"""Label maps row by row are those of the whole semantic map."""

import pytest
import torch
from plain_reference import semantic_map

from mmzeg.models import label_tiles
from mmzeg.models.image_sizes import ImageSizes


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('tile', [1, 3000, 1 << 22])
@pytest.mark.parametrize(
    'size, valid, original',
    [
        ((64, 96), (64, 96), (64, 96)),
        ((64, 96), (50, 96), (50, 96)),
        ((64, 96), (61, 90), (200, 310)),
        ((64, 96), (61, 90), (33, 47)),
        ((96, 64), (96, 64), (1, 1)),
    ],
)
def test_as_the_whole_map(monkeypatch, dtype, tile, size, valid, original):
    monkeypatch.setattr(label_tiles, 'TILE', tile)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 13, generator=generator, dtype=dtype)
    logits = 4 * torch.randn(9, size[0] // 4, size[1] // 4, generator=generator, dtype=dtype)
    taken = 0.2 * (torch.arange(13) % 2).to(dtype)
    whole = semantic_map(scores, logits, size, valid, original, taken)
    found = label_tiles.label_map(scores, logits, ImageSizes(size, valid, original), taken)
    assert found.shape == original
    # The same arithmetic in another order: only classes within rounding of each other may change places.
    first, second = whole.topk(2, 0).values
    clear = first - second > 8 * torch.finfo(dtype).eps * first.abs()
    assert clear.float().mean() > 0.999 and torch.equal(found[clear], whole.argmax(0)[clear])


def test_masks_at_the_pictures_own_size(monkeypatch):
    monkeypatch.setattr(label_tiles, 'TILE', 3000)
    logits = torch.randn(9, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shapes = (64, 96), (61, 90), (200, 310)
    tiles = list(label_tiles.mask_rows(logits, ImageSizes(*shapes), 1))
    whole = semantic_map(torch.eye(9, dtype=torch.float64), logits, *shapes, torch.zeros(9))
    assert len(tiles) == 200
    torch.testing.assert_close(torch.cat(tiles, 1), whole, atol=1e-14, rtol=0)
