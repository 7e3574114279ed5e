"""Sub-images are RoIAlign's, and what is the same goes through CLIP once."""

from pathlib import Path

import pytest
import torch
from torchvision.ops import roi_align

from mmzeg.models import CLIPCropScorer
from mmzeg.models.scorers.sub_images import cut_sub_images, mask_boxes

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)


@pytest.mark.parametrize('style', ['crop', 'cropmask'])
@pytest.mark.parametrize('size', [(16, 16), (24, 40)])
def test_as_roi_align(style, size):
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
    source = image * inside[:, None] if style == 'cropmask' else image.expand(len(masks), -1, -1, -1)
    index = torch.arange(len(masks)).float()[:, None]
    wanted = roi_align(source, torch.cat([index, found], 1), size, aligned=True)
    # On noise a sample's position, rounded another way, is worth this much.
    torch.testing.assert_close(cut_sub_images(image, masks, size, style), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize('style', ['crop', 'mask', 'cropmask'])
@pytest.mark.parametrize('empty', [[], [0], [1, 4], [0, 1, 2, 3, 4]])
def test_empty_masks_go_through_clip_once(tmp_path, monkeypatch, style, empty):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    torch.manual_seed(0)
    image, masks = torch.rand(3, 64, 96) * 255, torch.full((5, 16, 24), -9.0)
    for query in set(range(5)) - set(empty):
        masks[query, query : query + 6, 2 * query : 2 * query + 9] = 9.0
    scorer = CLIPCropScorer(CLIP, 'single', style=style, chunk=2)
    alone = torch.cat([scorer.embed(image, mask[None], (64, 96)) for mask in masks], 1)
    shown = []
    encode = scorer.clip.encode_image
    monkeypatch.setattr(scorer.clip, 'encode_image', lambda images: shown.append(len(images)) or encode(images))
    torch.testing.assert_close(scorer.embed(image, masks, (64, 96)), alone)
    assert sum(shown) == 5 - max(0, len(empty) - 1)
