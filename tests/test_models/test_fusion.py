import pytest
import torch

from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers.crops import mask_boxes


def test_full_follows_the_formula():
    segment, image = torch.tensor([[1.0, 2.0, 0.5, -1.0]]), torch.tensor([[0.3, -0.2, 1.5]])
    seen = torch.tensor([True, True, False])
    p = segment.softmax(-1)[0, :3]
    q = torch.cat([image, segment[:, 3:]], 1).softmax(-1)[0, :3]
    lam = 0.6
    mean = (q[0] + q[1]) / 2
    want = torch.stack(
        [p[0] ** lam * mean ** (1 - lam), p[1] ** lam * mean ** (1 - lam), p[2] ** (1 - lam) * q[2] ** lam]
    )
    torch.testing.assert_close(ScoreFusion('full', lam)(segment, image, seen)[0], want)
    torch.testing.assert_close(ScoreFusion('img')(segment, image, seen)[0], q)
    torch.testing.assert_close(ScoreFusion('unseen', lam)(segment, image, seen)[0], p ** (1 - lam) * q**lam)


@pytest.mark.parametrize('arguments', [dict(mode='both'), dict(lam=1.1), dict(gamma=-0.1)])
def test_bad_settings(arguments):
    with pytest.raises(ValueError, match='fusion'):
        ScoreFusion(**arguments)


def test_boxes():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:5, 1:7] = True
    masks[1, 3, 2:5] = True
    assert mask_boxes(masks).tolist() == [[1, 2, 6, 4], [0, 0, 8, 6], [0, 0, 8, 6]]
