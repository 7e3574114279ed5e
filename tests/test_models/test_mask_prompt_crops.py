"""OVSeg's crops: both ways to cut them equal PyTorch's interpolation of the box, and one has neither loop nor wait."""

import pytest
import torch
import torch.nn.functional as F

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.models.scorers.mask_prompt_crops import crop_with_masks

# (x0, y0, x1, y1), the last column and row included: in the middle, at edges, one row, one pixel, the complete image.
BOXES = [(20, 10, 70, 44), (0, 5, 8, 59), (80, 0, 89, 9), (40, 7, 60, 7), (33, 20, 33, 20), (0, 0, 89, 59)]


@pytest.fixture
def image():
    return torch.randn(3, 60, 90, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks():
    """Noise that reaches the edges of the boxes, and an empty mask."""
    noise = torch.rand(len(BOXES), 60, 90, generator=torch.Generator().manual_seed(1)) > 0.5
    masks = torch.zeros(len(BOXES) + 1, 60, 90, dtype=torch.bool)
    for mask, pixels, (x0, y0, x1, y1) in zip(masks, noise, BOXES, strict=False):
        box = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        mask[box] = pixels[box]
        mask[y0, x0] = True
        mask[y1, x1] = True
    return masks


@pytest.mark.parametrize('is_batched', [True, False])
@pytest.mark.parametrize('size', [(16, 16), (24, 40), (224, 224)])
def test_crops_are_the_interpolated_boxes(image, masks, size, is_batched):
    crops, crop_masks = crop_with_masks(image, masks, size, is_batched)
    for index, (x0, y0, x1, y1) in enumerate(BOXES):
        mask = masks[index, y0 : y1 + 1, x0 : x1 + 1].float()
        pixels = image[:, y0 : y1 + 1, x0 : x1 + 1] * mask
        expected = F.interpolate(pixels[None], size, mode='bicubic', align_corners=False)[0]
        torch.testing.assert_close(crops[index], expected, atol=2e-5, rtol=0)
        assert torch.equal(crop_masks[index, 0], F.interpolate(mask[None, None], size, mode='nearest')[0, 0])
    assert not crops[-1].any() and not crop_masks[-1].any()


def test_batched_crops_have_no_loop_over_masks(image, masks):
    counts = []
    for selected in (masks[:2], masks):
        with KernelCounter(torch.device('cpu')) as counter:
            crop_with_masks(image, selected, (24, 40), is_batched=True)
        assert counter.num_waits == 0, counter.wait_sites
        counts.append(counter.num_kernels)
    assert counts[0] == counts[1]
