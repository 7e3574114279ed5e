"""Counts of the masks that a scorer is called with."""

import torch

from mmzeg.evaluation.scorer_comparison import CountedScorer
from mmzeg.models.scorers import BaseScorer
from mmzeg.vocabulary import Vocabulary


class MeanFeature(BaseScorer):
    """Scores every mask by the mean of the backbone's map."""

    def encode_batch(self, images, mask_logits, valid_sizes, features):
        return [feature.mean().expand(len(masks), 1) for masks, feature in zip(mask_logits, features, strict=True)]

    def encode(self, image, mask_logits, valid_size):
        raise AssertionError('called without features')

    def classify(self, embeddings, vocabulary):
        return embeddings.expand(-1, len(vocabulary))


def test_different_masks_are_counted():
    counted = CountedScorer(MeanFeature())
    masks = torch.randn(5, 4, 6)
    masks[3] = masks[1]
    sizes = [(8, 12)] * 2
    features = [torch.full((2, 3, 3), value) for value in (1.0, 2.0)]
    images = torch.zeros(2, 3, 8, 12)
    first, second = counted.scorer.score_segments(
        images, [masks, masks[:2]], Vocabulary(['a', 'b', 'c']), sizes, features=features
    )
    assert torch.equal(first, torch.ones(5, 3)) and torch.equal(second, torch.full((2, 3), 2.0))
    assert counted.pop_count() == 4 + 2 and counted.pop_count() == 0
