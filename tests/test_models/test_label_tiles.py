"""Label maps row by row are those of the whole semantic map."""

import pytest
import torch
import torch.nn.functional as F

from mmzeg.models.segmentors import label_tiles
from mmzeg.models.segmentors.zegformer import assemble


@pytest.mark.parametrize('tile', [1, 3000, 1 << 24])
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
def test_as_the_whole_map(monkeypatch, tile, size, valid, original):
    monkeypatch.setattr(label_tiles, 'TILE', tile)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 13, generator=generator)
    logits = 4 * torch.randn(9, size[0] // 4, size[1] // 4, generator=generator)
    taken = 0.2 * (torch.arange(13) % 2)
    whole = assemble(scores[None], logits[None], size)[:, :, : valid[0], : valid[1]]
    if tuple(valid) != original:
        whole = F.interpolate(whole, size=original, mode='bilinear', align_corners=False)
    whole = whole[0] - taken[:, None, None]
    found = label_tiles.label_map(scores, logits, size, valid, original, taken)
    assert found.shape == original
    # A class that is chosen in another's place is as good but for rounding.
    best, chosen = whole.max(0).values, whole.gather(0, found[None])[0]
    torch.testing.assert_close(chosen, best, atol=1e-5, rtol=0)
    assert (found == whole.argmax(0)).float().mean() > 0.999
