"""Masks on the grid of an image encoder."""

import pytest
import torch
import torch.nn.functional as F
from smooth_masks import smooth_mask_logits

from mmzeg.models.scorers.grid_masks import MASK_RESIZES, dilate_cells, masks_on_grid


def test_bilinear_masks_equal_those_that_were_resized_to_the_image_first():
    """IP-CLIP's masks: upsampled to the padded image, cropped, resized without antialiasing."""
    logits = smooth_mask_logits(12, 24, 40)
    padded_size, (height, width), grid = (96, 160), (90, 141), (30, 17)
    probs = F.interpolate(logits[None], size=padded_size, mode='bilinear', align_corners=False).sigmoid()
    values = F.interpolate(probs[..., :height, :width], size=grid, mode='bilinear', align_corners=False)[0]
    is_decided = (values - 0.5).abs() > 1e-5
    on_grid = masks_on_grid(logits, padded_size, (height, width), grid, 'bilinear', keep_best_cell=False)
    assert torch.equal(on_grid[is_decided], (values >= 0.5)[is_decided])
    assert is_decided.float().mean() > 0.99 and 0.1 < on_grid.float().mean() < 0.9


def test_masks_at_the_images_size_are_resized_as_they_are():
    logits = smooth_mask_logits(4, 90, 120)
    on_grid = masks_on_grid(logits, (90, 120), (90, 120), (30, 30), 'bilinear', keep_best_cell=False)
    assert torch.equal(on_grid, F.interpolate(logits[None].sigmoid(), size=(30, 30), mode='bilinear')[0] >= 0.5)
    on_grid = masks_on_grid(logits, (90, 120), (90, 120), (3, 4), 'bilinear_logits', keep_best_cell=False)
    assert torch.equal(on_grid, F.interpolate(logits[None], size=(3, 4), mode='bilinear')[0] > 0)


@pytest.mark.parametrize('resize', MASK_RESIZES)
def test_empty_tiny_and_full_masks(resize):
    logits = torch.full((3, 64, 64), -9.0)
    logits[1, 9, 40] = 9.0
    logits[2] = 9.0
    kept = masks_on_grid(logits, (64, 64), (64, 64), (4, 4), resize, keep_best_cell=True)
    assert kept.flatten(1).sum(1).tolist() == [1, 1, 16]
    left_out = masks_on_grid(logits, (64, 64), (64, 64), (4, 4), resize, keep_best_cell=False)
    assert left_out.flatten(1).sum(1).tolist() == [0, 0, 16]
    if resize == 'area':
        assert kept[1, 0, 2]


def test_dilation_in_cells():
    on_grid = torch.zeros(2, 5, 5, dtype=torch.bool)
    on_grid[0, 2, 2] = True
    assert dilate_cells(on_grid, 1).flatten(1).sum(1).tolist() == [9, 0]
    assert torch.equal(dilate_cells(on_grid, 0), on_grid)
