"""Masked crops and boxes equal those of the reference implementation."""

import pytest
import torch

from mmzeg.benchmarking.reference_scorer import reference_crops
from mmzeg.models.scorers.crops import crop_segments, mask_boxes


def test_mask_boxes():
    """A line of pixels and an empty mask get the whole image."""
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:5, 1:7] = True
    masks[1, 3, 2:5] = True
    assert mask_boxes(masks).tolist() == [[1, 2, 6, 4], [0, 0, 8, 6], [0, 0, 8, 6]]


@pytest.mark.parametrize('crop_mode', ['crop', 'cropmask'])
@pytest.mark.parametrize('size', [(16, 16), (24, 40)])
def test_crops_equal_the_reference(crop_mode, size):
    """Boxes in the middle, at every edge, larger and smaller than the crop, of one line, and of an empty mask."""
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
        # Noise that reaches the edges of the box
        mask[y0 : y1 + 1, x0 : x1 + 1] = torch.rand(
            y1 + 1 - y0, x1 + 1 - x0, generator=torch.Generator().manual_seed(1)
        )
        mask[y0, x0] = 1
        mask[y1, x1] = 1
    binary_masks = masks > 0.5
    computed_boxes = mask_boxes(binary_masks).float()
    assert computed_boxes[:2].tolist() == [list(boxes[0]), list(boxes[1])]
    assert computed_boxes[-2:].tolist() == [[0, 0, 90, 60]] * 2
    expected = reference_crops(image, binary_masks, size, crop_mode)
    # Sample positions are rounded differently, which on noise changes values by up to 1e-4.
    torch.testing.assert_close(crop_segments(image, masks, size, crop_mode), expected, atol=1e-4, rtol=0)
