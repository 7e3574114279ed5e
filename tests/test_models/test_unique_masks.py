"""Equal masks form one group, in the order of the queries; all empty masks are equal."""

import torch

from mmzeg.models.scorers.unique_masks import unique_masks


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
