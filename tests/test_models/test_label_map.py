"""Label maps row by row equal the argmax of the semantic map."""

import pytest
import torch

from mmzeg.benchmarking.reference_scorer import reference_semantic_map
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import label_and_margin_maps, label_and_query_maps, label_map


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('max_tile_numel', [1, 3000, 1 << 22])
@pytest.mark.parametrize(
    'padded, valid, original',
    [
        ((64, 96), (64, 96), (64, 96)),
        ((64, 96), (50, 96), (50, 96)),
        ((64, 96), (61, 90), (200, 310)),
        ((64, 96), (61, 90), (33, 47)),
        ((96, 64), (96, 64), (1, 1)),
    ],
)
def test_labels_equal_the_argmax_of_the_semantic_map(monkeypatch, dtype, max_tile_numel, padded, valid, original):
    monkeypatch.setattr('mmzeg.models.execution.TILED_TILE_NUMEL', max_tile_numel)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 13, generator=generator, dtype=dtype)
    logits = 4 * torch.randn(9, padded[0] // 4, padded[1] // 4, generator=generator, dtype=dtype)
    class_offset = 0.2 * (torch.arange(13) % 2).to(dtype)
    semantic_map = reference_semantic_map(scores, logits, padded, valid, original, class_offset)
    labels = label_map(scores, logits, ImageSizes(padded, valid, original), class_offset)
    assert labels.shape == original
    # The sums are in another order: only classes within rounding of each other may swap.
    first, second = semantic_map.topk(2, 0).values
    is_clear = first - second > 8 * torch.finfo(dtype).eps * first.abs()
    assert is_clear.float().mean() > 0.999
    assert torch.equal(labels[is_clear], semantic_map.argmax(0)[is_clear])


def test_the_query_map_names_the_query_that_contributes_most(monkeypatch):
    monkeypatch.setattr('mmzeg.models.execution.TILED_TILE_NUMEL', 3000)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 13, generator=generator)
    logits = 4 * torch.randn(9, 16, 24, generator=generator)
    class_offset = 0.2 * (torch.arange(13) % 2)
    sizes = ImageSizes((64, 96), (61, 90), (61, 90))
    labels, queries = label_and_query_maps(scores, logits, sizes, class_offset)
    assert torch.equal(labels, label_map(scores, logits, sizes, class_offset))
    masks = reference_semantic_map(torch.eye(9), logits, sizes.padded, sizes.valid, sizes.original, torch.zeros(9))
    contributions = scores[:, labels] * masks
    contribution = contributions.gather(0, queries[None])[0]
    torch.testing.assert_close(contribution, contributions.amax(0))
    assert len(queries.unique()) == 9


@pytest.mark.parametrize('num_classes', [1, 2, 13])
def test_margins_are_the_difference_of_the_two_highest_scores(monkeypatch, num_classes):
    monkeypatch.setattr('mmzeg.models.execution.TILED_TILE_NUMEL', 3000)
    generator = torch.Generator().manual_seed(0)
    scores = 0.4 * torch.rand(9, num_classes, generator=generator)
    logits = 4 * torch.randn(9, 16, 24, generator=generator)
    class_offset = 0.2 * (torch.arange(num_classes) % 2)
    sizes = ImageSizes((64, 96), (61, 90), (61, 90))
    labels, margins = label_and_margin_maps(scores, logits, sizes, class_offset)
    assert torch.equal(labels, label_map(scores, logits, sizes, class_offset))
    semantic_map = reference_semantic_map(scores, logits, sizes.padded, sizes.valid, sizes.original, class_offset)
    if num_classes == 1:
        expected = semantic_map[0]
    else:
        first, second = semantic_map.topk(2, 0).values
        expected = first - second
    torch.testing.assert_close(margins, expected.clamp(0, 1))
    assert margins.min() >= 0 and margins.std() > 0.01


def test_the_margin_of_equal_scores_is_zero():
    scores = torch.full((3, 4), 0.3)
    sizes = ImageSizes((8, 8), (8, 8), (8, 8))
    labels, margins = label_and_margin_maps(scores, torch.zeros(3, 2, 2), sizes, torch.zeros(4))
    assert (margins == 0).all() and torch.equal(labels, label_map(scores, torch.zeros(3, 2, 2), sizes, torch.zeros(4)))
