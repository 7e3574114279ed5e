"""The runner resizes and pads images as the transforms of the config do."""

import numpy as np
import pytest
from mmseg.datasets.transforms import Resize

from mmzeg.datasets.transforms import ResizeShortestEdge
from mmzeg.deployment.onnx_images import padded_size, resized_size


@pytest.mark.parametrize('size', [(480, 640), (641, 427), (333, 333), (100, 3000), (1, 1)])
@pytest.mark.parametrize(
    'step, transform',
    [
        (dict(kind='shortest_edge', scale=640, max_size=2560), ResizeShortestEdge(640, 2560)),
        (dict(kind='shortest_edge', scale=50, max_size=80), ResizeShortestEdge(50, 80, 'cv2')),
        (dict(kind='keep_ratio', scale=[240, 180]), Resize((240, 180), keep_ratio=True)),
        (dict(kind='fixed', scale=[64, 48]), Resize((64, 48))),
    ],
)
def test_sizes_equal_the_transforms(size, step, transform):
    expected = transform(dict(img=np.zeros((*size, 3), np.uint8)))['img'].shape
    assert resized_size(size[::-1], step) == expected[1::-1]


def test_padding_is_to_a_multiple_or_at_least_to_a_size():
    assert padded_size((64, 65), dict(size=None, divisor=32)) == (64, 96)
    assert padded_size((64, 65), dict(size=None, divisor=None)) == (64, 65)
    assert padded_size((64, 65), dict(size=[80, 50], divisor=None)) == (80, 65)
