"""The runner's arithmetic in NumPy equals that of mmzeg.models in PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from smooth_masks import smooth_mask_logits

from mmzeg.deployment import onnx_arrays
from mmzeg.models import calibration
from mmzeg.models.fusion import MODES, ScoreFusion
from mmzeg.models.scorers import crops, unique_masks
from mmzeg.models.semantic_map import to_original_size


@pytest.mark.parametrize('size', [(160, 96), (33, 70), (7, 5), (1, 1)])
def test_resize_equals_interpolate(size):
    maps = torch.randn(3, 24, 17)
    expected = F.interpolate(maps[None], size=size, mode='bilinear', align_corners=False)[0]
    np.testing.assert_allclose(onnx_arrays.resize(maps.numpy(), size), expected, atol=1e-5)
    rows = range(size[0] // 2, size[0])
    np.testing.assert_allclose(onnx_arrays.resize(maps.numpy(), size, rows), expected[:, rows.start :], atol=1e-5)


@pytest.mark.parametrize('original', [(75, 130), (37, 64), (200, 300)])
def test_mask_rows_equal_rows_of_the_complete_map(original):
    padded, valid = (96, 160), (75, 130)
    logits = smooth_mask_logits(4, 24, 40)
    masks = F.interpolate(logits[None], size=padded, mode='bilinear', align_corners=False)[0].sigmoid()
    expected = to_original_size(masks, dict(ori_shape=original, padding_size=(0, 30, 0, 21)))
    for rows in (range(original[0]), range(5, 20), range(original[0] - 1, original[0])):
        actual = onnx_arrays.mask_rows(logits.numpy(), padded, valid, original, rows)
        np.testing.assert_allclose(actual, expected[:, rows.start : rows.stop], atol=1e-5)


def test_huge_mask_logits_do_not_overflow():
    with np.errstate(over='raise'):
        masks = onnx_arrays.mask_probabilities(np.float32([[[-500, 500]]]), (1, 2))
    assert masks.tolist() == [[[0, 1]]]


@pytest.mark.parametrize('pixels', [1, 3])
def test_dilation_equals_max_pooling(pixels):
    masks = torch.rand(2, 20, 31)
    expected = F.max_pool2d(masks, 2 * pixels + 1, stride=1, padding=pixels)
    np.testing.assert_array_equal(onnx_arrays.dilate(masks.numpy(), pixels), expected)


def test_equal_masks_are_shared_as_by_the_scorer():
    logits = smooth_mask_logits(6, 8, 8)
    logits[[1, 4]] = -3.0
    logits[5] = logits[0]
    ((expected, expected_indices),) = unique_masks.unique_masks([logits])
    queries, indices = onnx_arrays.unique_masks(logits.numpy())
    np.testing.assert_array_equal(logits[queries], expected)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize('crop_mode', crops.CROP_MODES)
@pytest.mark.parametrize('size', [(24, 24), (96, 32)])
def test_crops_equal_the_scorers(crop_mode, size):
    masks = smooth_mask_logits(8, 64, 96).sigmoid()
    masks[0] = 0
    masks[1] = 0
    masks[1, 30, 4:60] = 1  # a line has a box without area
    masks[2] = 0
    masks[2, 62:, 94:] = 1
    image = torch.randn(3, 64, 96)
    image[:, 50:] = 0
    expected = crops.crop_segments(image, masks, size, crop_mode)
    actual = onnx_arrays.crop_segments(image.numpy(), masks.numpy(), size, crop_mode)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=2e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('seen', [[True, False, True, False], [False] * 4, [True] * 4])
def test_scores_equal_score_fusion(mode, seen):
    class_logits, clip_logits = 5 * torch.randn(6, 5), 5 * torch.randn(6, 4)
    expected = ScoreFusion(mode, 0.7, alpha=0.2, beta=0.9)(class_logits, clip_logits, torch.tensor(seen))
    actual = onnx_arrays.fuse(class_logits.numpy(), clip_logits.numpy(), np.array(seen), mode, 0.7, 0.2, 0.9)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_class_offset_equals_calibration():
    seen = [True, False, True]
    offset = onnx_arrays.class_offset(np.array(seen), 0.1)
    assert offset.dtype == np.float32
    np.testing.assert_array_equal(offset, calibration.class_offset(torch.tensor(seen), 0.1))
