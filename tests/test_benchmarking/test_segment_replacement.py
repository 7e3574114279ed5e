"""Segments of a trained model, or empty masks, in place of those of random weights."""

import pytest
import torch

from mmzeg.benchmarking.segment_replacement import OUTSIDE, TrainedSegments, replace_segments


@pytest.fixture
def head_output():
    """Class logits (L, B, Q, C + 1) and mask logits (L, B, Q, h, w)."""
    torch.manual_seed(0)
    return torch.randn(2, 1, 5, 4), torch.randn(2, 1, 5, 8, 12)


def test_nothing_to_replace(head_output):
    assert all(map(torch.equal, replace_segments(*head_output, None, 0), head_output))
    assert all(map(torch.equal, replace_segments(*head_output, None, None), head_output))


def test_empty_masks(head_output):
    class_logits, mask_logits = replace_segments(*head_output, None, 2)
    assert torch.equal(class_logits, head_output[0])
    assert (mask_logits[:, :, :2] == OUTSIDE).all()
    assert torch.equal(mask_logits[:, :, 2:], head_output[1][:, :, 2:])


def test_trained_segments_stand_in_columns(head_output):
    segments = TrainedSegments(
        no_object_probs=torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), mask_logits=torch.full((2, 3, 4, 3), 5.0)
    )
    class_logits, mask_logits = replace_segments(*head_output, segments, None)
    # The first image's three masks lie in the left half, the second image's first two in the right half.
    for query in range(5):
        left, right = mask_logits[:, :, query].split(6, -1)
        assert (left == (5 if query < 3 else OUTSIDE)).all()
        assert (right == (OUTSIDE if query < 3 else 5)).all()
    no_object = class_logits.softmax(-1)[..., -1]
    torch.testing.assert_close(no_object, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).expand(2, 1, 5))
    assert torch.equal(class_logits[..., :-1], head_output[0][..., :-1])
