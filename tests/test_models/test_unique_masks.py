"""Equal masks form one group, in the order of the queries; all empty masks are equal."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.models.scorers.unique_masks import hash_masks, unique_masks


def rectangle(columns, value=9.0):
    """Return mask logits (4, 6), positive in the first columns."""
    mask = torch.full((4, 6), -9.0)
    mask[:, :columns] = value
    return mask


def test_groups_are_in_the_order_of_the_queries():
    # Sorted by value, as torch.unique sorts, the wide mask would be the last.
    masks = torch.stack([rectangle(columns) for columns in (5, 2, 5, 3, 2, 5)])
    ((unique, indices),) = unique_masks([masks])
    assert torch.equal(unique, masks[[0, 1, 3]])
    assert indices.tolist() == [0, 1, 0, 2, 1, 0]


def test_different_masks_stay_as_they_are():
    masks = torch.randn(8, 4, 6, generator=torch.Generator().manual_seed(0))
    # Near-duplicates are not equal.
    masks[5] = masks[2]
    masks[5, 3, 5] += 1e-3
    ((unique, indices),) = unique_masks([masks])
    assert torch.equal(unique, masks) and indices.tolist() == list(range(8))


def test_all_empty_masks_are_one_group():
    """A mask is empty where no logit is above 0, whatever its logits are."""
    masks = torch.stack([rectangle(0), rectangle(2), rectangle(3, -0.5), rectangle(6, 0.0), rectangle(2)])
    ((unique, indices),) = unique_masks([masks])
    assert torch.equal(unique, masks[:2])
    assert indices.tolist() == [0, 1, 0, 0, 1]


def test_a_mask_of_minus_one_is_empty():
    ((unique, indices),) = unique_masks([torch.full((3, 4, 6), -1.0)])
    assert unique.shape == (1, 4, 6) and indices.tolist() == [0, 0, 0]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_several_images_of_different_sizes(dtype):
    first = torch.stack([rectangle(columns) for columns in (2, 2, 3)]).to(dtype)
    second = torch.stack([rectangle(columns).t() for columns in (3, 0, 0, 3, 1)]).to(dtype)
    alone = [*unique_masks([first]), *unique_masks([second])]
    assert [len(masks) for masks, _ in alone] == [2, 3]
    for (masks, indices), (expected, expected_indices) in zip(unique_masks([first, second]), alone, strict=True):
        assert torch.equal(masks, expected) and torch.equal(indices, expected_indices)
    assert alone[1][1].tolist() == [0, 1, 1, 0, 2]


def test_different_masks_with_equal_hashes_stay_apart():
    """The corners of a rectangle may be swapped: the sums of rows and columns stay."""
    mask = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    mask[0, 0] = mask[2, 3] = 1.5
    mask[0, 3] = mask[2, 0] = 0.5
    swapped = mask.clone()
    swapped[0, 0] = swapped[2, 3] = 0.5
    swapped[0, 3] = swapped[2, 0] = 1.5
    masks = torch.stack([mask, swapped, mask])
    assert len(hash_masks(masks).unique()) == 1 and not torch.equal(mask, swapped)
    ((unique, indices),) = unique_masks([masks])
    assert torch.equal(unique, masks[:2]) and indices.tolist() == [0, 1, 0]


def test_the_hash_tells_many_masks_apart():
    """Boxes of one size, of two values: as masks of a file have them."""
    masks = torch.full((24 * 24, 32, 32), -9.0)
    for index, mask in enumerate(masks):
        row, column = divmod(index, 24)
        mask[row : row + 8, column : column + 8] = 9.0
    assert len(hash_masks(masks).unique()) == len(masks)


def test_the_hash_takes_little_memory():
    """Masks of 82 MB: 64-bit copies of all would take 164 MB."""
    masks = torch.randn(200, 320, 320)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        hashes = hash_masks(masks)
    assert len(hashes.unique()) == 200
    assert max(event.cpu_memory_usage for event in profiler.events()) <= 2**24


def test_one_wait_for_all_images():
    images = [torch.stack([rectangle(columns) for columns in (2, 3, 0, 2, 4)])] * 3
    with KernelCounter(torch.device('cpu')) as counter:
        unique_masks(images)
    assert counter.num_waits == 1, counter.wait_sites
