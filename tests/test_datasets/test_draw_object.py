"""Images of a single class, from which the world's CLIP and backbone are trained."""

import numpy as np
import pytest

from mmzeg.datasets.world import CLASSES, UNSEEN, draw_object


def test_seeded_and_distinct():
    first = draw_object('umbrella', 'train', 0)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw_object('umbrella', 'train', 0))
    others = [('umbrella', 'train', 1), ('umbrella', 'test', 0), ('anchor', 'train', 0), ('sand', 'train', 0)]
    assert len({draw_object(*other).tobytes() for other in others} | {first.tobytes()}) == 5


@pytest.mark.parametrize('name', CLASSES)
def test_every_class_can_be_drawn(name):
    assert draw_object(name, 'train', 0, size=48).std() > 3


def test_no_unseen_ground_texture(monkeypatch):
    from mmzeg.datasets.world import scenes

    painted = []
    for name, paint in scenes.PAINTERS.items():
        monkeypatch.setitem(scenes.PAINTERS, name, lambda *args, n=name, p=paint: painted.append(n) or p(*args))
    for index in range(40):
        draw_object('heart', 'train', index, size=32, unseen_frequency=0.0)
    assert len(set(painted)) == 5 and not set(painted) & set(UNSEEN)
