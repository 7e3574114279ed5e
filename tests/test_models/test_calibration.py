"""Calibration lowers seen classes only, and its labels need the best seen and the best unseen class alone."""

import pytest
import torch

from mmzeg.models import ScoreFusion
from mmzeg.models.calibration import calibrate, calibrated_labels, class_offset

SEEN = torch.tensor([True, False, True, True, False, False, True])


def test_class_offset_is_gamma_for_seen_classes_only():
    expected = torch.tensor([0.25, 0, 0.25, 0.25, 0, 0, 0.25])
    assert torch.equal(class_offset(SEEN, 0.25), expected)
    assert torch.equal(ScoreFusion(gamma=0.25).class_offset(SEEN), expected)
    offset = class_offset(SEEN, 0.1, torch.float64)
    assert offset.dtype == torch.float64 and offset[0] == 0.1


@pytest.mark.parametrize('shape', [(7, 4, 5), (2, 7, 4, 5)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_calibrate_lowers_seen_classes_only(shape, dtype):
    semantic_map = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    calibrated = calibrate(semantic_map, class_offset(SEEN, 0.25))
    assert calibrated.dtype == dtype and calibrated.shape == shape
    assert torch.equal(calibrated[..., ~SEEN, :, :], semantic_map[..., ~SEEN, :, :])
    assert torch.equal(calibrated[..., SEEN, :, :], semantic_map[..., SEEN, :, :] - 0.25)


def test_calibrated_labels_equal_the_argmax_of_the_calibrated_map():
    semantic_map = torch.rand(7, 40, 50, generator=torch.Generator().manual_seed(0))
    class_ids = torch.arange(7)
    seen_scores, seen_indices = semantic_map[SEEN].max(0)
    unseen_scores, unseen_indices = semantic_map[~SEEN].max(0)
    seen_labels = class_ids[SEEN][seen_indices]
    unseen_labels = class_ids[~SEEN][unseen_indices]
    num_seen_pixels = []
    for gamma in (0.0, 0.01, 0.1, 0.5, 2.0):
        labels = calibrated_labels(seen_scores, seen_labels, unseen_scores, unseen_labels, gamma)
        assert torch.equal(labels, calibrate(semantic_map, class_offset(SEEN, gamma)).argmax(0))
        num_seen_pixels.append(SEEN[labels].sum().item())
    # Every gamma takes pixels from the seen classes, and the largest takes all.
    assert num_seen_pixels == sorted(set(num_seen_pixels), reverse=True) and num_seen_pixels[-1] == 0
