"""ScoreFusion follows the formulas of docs/en/method.md#score-fusion."""

import pytest
import torch

from mmzeg.models.fusion import ScoreFusion


def test_scores_follow_the_formulas():
    class_logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    clip_logits = torch.tensor([[0.3, -0.2, 1.5]])
    seen = torch.tensor([True, True, False])
    lam = 0.6
    seg_probs = class_logits.softmax(-1)[0, :3]
    clip_probs = torch.cat([clip_logits, class_logits[:, 3:]], 1).softmax(-1)[0, :3]
    seen_mean = (clip_probs[0] + clip_probs[1]) / 2
    expected = torch.stack(
        [
            seg_probs[0] ** lam * seen_mean ** (1 - lam),
            seg_probs[1] ** lam * seen_mean ** (1 - lam),
            seg_probs[2] ** (1 - lam) * clip_probs[2] ** lam,
        ]
    )
    torch.testing.assert_close(ScoreFusion('full', lam)(class_logits, clip_logits, seen)[0], expected)
    torch.testing.assert_close(ScoreFusion('img')(class_logits, clip_logits, seen)[0], clip_probs)
    expected = seg_probs ** (1 - lam) * clip_probs**lam
    torch.testing.assert_close(ScoreFusion('unseen', lam)(class_logits, clip_logits, seen)[0], expected)


def test_the_geometric_ensemble_follows_fc_clip():
    """Softmax over classes of the log geometric mean, times the probability of an object."""
    class_logits = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.0, -1.0, 3.0, 2.0]])
    clip_logits = torch.tensor([[0.3, -0.2, 1.5], [4.0, 5.0, -6.0]])
    seen = torch.tensor([True, True, False])
    seg_probs, clip_probs = class_logits[:, :3].softmax(-1), clip_logits.softmax(-1)
    weights = torch.tensor([0.3, 0.3, 0.7])
    means = seg_probs ** (1 - weights) * clip_probs**weights
    is_object = 1 - class_logits.softmax(-1)[:, 3:]
    expected = means / means.sum(-1, keepdim=True) * is_object
    fusion = ScoreFusion('geometric', alpha=0.3, beta=0.7)
    torch.testing.assert_close(fusion(class_logits, clip_logits, seen), expected)
    assert fusion.needs_scorer
    # Far from 1, too.
    scores = ScoreFusion('geometric', alpha=1.0, beta=1.0)(class_logits, 100 * clip_logits, seen)
    torch.testing.assert_close(scores, (100 * clip_logits).softmax(-1) * is_object)
    # Without CLIP it is mode seg.
    scores = ScoreFusion('geometric', alpha=0.0, beta=0.0)(class_logits, clip_logits, seen)
    torch.testing.assert_close(scores, ScoreFusion('seg')(class_logits, None, seen))


def test_the_geometric_ensemble_without_clip_logits():
    """A segment that pruning skips has score 0; one with equal CLIP logits is left to the head if the field says so."""
    class_logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    clip_logits = torch.tensor([[1.0, 2.0, 0.0], [7.0, 7.0, 7.0], [-torch.inf] * 3])
    seen = torch.tensor([False, True, False])
    seg_probs = class_logits.softmax(-1)[:, :-1]
    for is_left_to_head in (False, True):
        fusion = ScoreFusion('geometric', alpha=0.0, ensemble_on_valid_mask=is_left_to_head)
        scores = fusion(class_logits, clip_logits, seen)
        assert torch.isfinite(scores).all() and not scores[2].any() and not torch.allclose(scores[0], seg_probs[0])
        assert torch.allclose(scores[1], seg_probs[1]) == is_left_to_head


@pytest.mark.parametrize(
    'fields', [dict(mode='both'), dict(lam=1.1), dict(gamma=-0.1), dict(alpha=-0.1), dict(beta=1.5), dict(alpha='0.4')]
)
def test_bad_fields(fields):
    with pytest.raises(ValueError, match=f'fusion {next(iter(fields))}'):
        ScoreFusion(**fields)
