import numpy as np
import pytest
from PIL import Image

from mmzeg.registry import TRANSFORMS


@pytest.mark.parametrize('size, want', [((640, 480), (427, 320)), ((100, 1000), (51, 512))])
def test_shortest_edge_is_pillows(size, want):
    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    resize = TRANSFORMS.build(dict(type='mmzeg.ResizeShortestEdge', scale=320, max_size=512))
    found = resize(dict(img=image))['img']
    assert found.shape[1::-1] == want
    assert np.array_equal(found, np.asarray(Image.fromarray(image).resize(want, Image.BILINEAR)))
