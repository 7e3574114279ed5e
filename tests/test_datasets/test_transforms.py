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


def test_labels_of_another_size_are_refused():
    check = TRANSFORMS.build(dict(type='mmzeg.CheckLabels'))
    results = dict(
        img=np.zeros((4, 6, 3)), gt_seg_map=np.zeros((4, 5)), img_path='street.jpg', seg_map_path='street.png'
    )
    with pytest.raises(ValueError, match='street.png is 5 x 4 pixels but its image street.jpg is 6 x 4'):
        check(results)
