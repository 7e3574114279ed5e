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


@pytest.mark.parametrize('fields', [dict(mode='both'), dict(lam=1.1), dict(gamma=-0.1)])
def test_bad_fields(fields):
    with pytest.raises(ValueError, match='fusion'):
        ScoreFusion(**fields)
