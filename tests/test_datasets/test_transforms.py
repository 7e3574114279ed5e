"""Image resizing equals Pillow's."""

import numpy as np
import pytest
from PIL import Image

from mmzeg.registry import TRANSFORMS


@pytest.mark.parametrize('size, expected', [((640, 480), (427, 320)), ((100, 1000), (51, 512))])
def test_resize_shortest_edge_equals_pillow(size, expected):
    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    resize = TRANSFORMS.build(dict(type='mmzeg.ResizeShortestEdge', scale=320, max_size=512))
    resized = resize(dict(img=image))['img']
    assert resized.shape[1::-1] == expected
    assert np.array_equal(resized, np.asarray(Image.fromarray(image).resize(expected, Image.BILINEAR)))
