"""Sub-images and CLIP's opinion are those of the plain way, and what is the same goes through CLIP once."""

from pathlib import Path

import pytest
import torch
from plain_reference import ReferenceScorer, crops

from mmzeg.models import CLIPCropScorer
from mmzeg.models.scorers.crops import crop_segments, mask_boxes
from mmzeg.vocabulary import Vocabulary

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)


@pytest.mark.parametrize('style', ['crop', 'cropmask'])
@pytest.mark.parametrize('size', [(16, 16), (24, 40)])
def test_as_the_plain_way_cuts(style, size):
    """Boxes inside, at every edge, larger and smaller than the output, of one line, and of an empty mask."""
    image = torch.randn(3, 60, 90, generator=torch.Generator().manual_seed(0))
    boxes = [
        (20, 10, 70, 44),
        (0, 0, 89, 59),
        (0, 5, 8, 59),
        (80, 0, 89, 9),
        (33, 20, 34, 21),
        (1, 1, 88, 3),
        (40, 7, 40, 9),
    ]
    masks = torch.zeros(len(boxes) + 1, 60, 90)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=False):
        # Ragged inside, but up to the edges of the box.
        mask[y0 : y1 + 1, x0 : x1 + 1] = torch.rand(
            y1 + 1 - y0, x1 + 1 - x0, generator=torch.Generator().manual_seed(1)
        )
        mask[y0, x0] = mask[y1, x1] = 1
    inside = masks > 0.5
    found = mask_boxes(inside).float()
    assert found[:2].tolist() == [list(boxes[0]), list(boxes[1])] and found[-2:].tolist() == [[0, 0, 90, 60]] * 2
    wanted = crops(image, inside, size, style)
    # On noise a sample's position, rounded another way, is worth this much.
    torch.testing.assert_close(crop_segments(image, masks, size, style), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize('style', ['crop', 'mask', 'cropmask'])
@pytest.mark.parametrize('empty', [[], [0], [1, 4], [0, 1, 2, 3, 4]])
def test_empty_masks_go_through_clip_once(tmp_path, monkeypatch, style, empty):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    torch.manual_seed(0)
    image, masks = torch.rand(3, 64, 96) * 255, torch.full((5, 16, 24), -9.0)
    for query in set(range(5)) - set(empty):
        masks[query, query : query + 6, 2 * query : 2 * query + 9] = 9.0
    scorer = CLIPCropScorer(CLIP, 'single', style=style, chunk=2)
    alone = torch.cat([scorer.encode(image, mask[None], (64, 96)) for mask in masks], 1)
    shown = []
    encode = scorer.clip.encode_image
    monkeypatch.setattr(scorer.clip, 'encode_image', lambda images: shown.append(len(images)) or encode(images))
    torch.testing.assert_close(scorer.encode(image, masks, (64, 96)), alone)
    assert sum(shown) == 5 - max(0, len(empty) - 1)


@pytest.mark.parametrize('style, grow', [('crop', 0), ('cropmask', 0), (['cropmask', 'crop'], 1)])
def test_opinion_of_the_plain_way(tmp_path, monkeypatch, style, grow):
    """Blobs and leaking noise, line, vanishing and empty masks, on a padded picture."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(255 * torch.rand(1, 3, 16, 24, generator=generator), size=(128, 192))[0]
    masks = torch.randn(12, 32, 48, generator=generator) - 5
    for query in range(6):
        masks[query, 3 * query : 5 * query + 6, 4 * query : 5 * query + 9] += 8
    masks[6] += 6
    masks[7, 20, 10:40], masks[8, 5, 5], masks[9:] = 3.0, 0.5, -2.0
    vocabulary = Vocabulary(['sky', 'road', 'car', 'tree, bush'])
    scorer = CLIPCropScorer(CLIP, 'single', style=style, grow=grow)
    found = scorer(image, masks, vocabulary, (120, 190))
    wanted = ReferenceScorer(scorer)(image, masks, vocabulary, (120, 190))
    assert len(wanted[:9].unique(dim=0)) == 9
    torch.testing.assert_close(found[9:], found[9].expand(3, -1))
    # Logits are CLIP's scale, 100, x cosine.
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
