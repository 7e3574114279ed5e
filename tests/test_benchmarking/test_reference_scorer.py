"""The reference by hand: boxes, crops and maps small enough to compute without it."""

from pathlib import Path

import pytest
import torch

from mmzeg.benchmarking.reference_scorer import (
    ReferenceScorer,
    reference_box,
    reference_crops,
    reference_semantic_map,
)
from mmzeg.models import CLIPCropScorer
from mmzeg.models.scorers import BaseScorer
from mmzeg.vocabulary import Vocabulary

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)


def mask_of(height, width, *pixels):
    mask = torch.zeros(height, width, dtype=torch.bool)
    for row, column in pixels:
        mask[row, column] = True
    return mask


@pytest.mark.parametrize(
    'pixels, box',
    [
        ([(1, 2), (3, 5)], (2, 1, 5, 3)),
        ([(0, 0), (4, 7)], (0, 0, 7, 4)),
        # Without area: a line, a pixel, nothing
        ([(1, 2), (1, 5)], (0, 0, 8, 5)),
        ([(1, 2)], (0, 0, 8, 5)),
        ([], (0, 0, 8, 5)),
    ],
)
def test_boxes(pixels, box):
    assert reference_box(mask_of(5, 8, *pixels)) == box


def test_crops_of_a_ramp():
    # A column's value is its number: the mean of a bin is the position of its centre, half a pixel before the box.
    image = torch.arange(16.0).expand(3, 16, 16)
    mask = mask_of(16, 16, (4, 4), (12, 12))
    crops = reference_crops(image, mask[None], (4, 4), 'crop')
    assert crops.shape == (1, 3, 4, 4)
    torch.testing.assert_close(crops[0, 0, 0], torch.tensor([4.5, 6.5, 8.5, 10.5]))
    # Of the mask's two pixels the first bin reaches one, at one of its four samples; the other lies on the box's edge.
    masked = reference_crops(image, mask[None], (4, 4), 'cropmask')
    assert masked[0, 0, 0, 0] == 1 and masked[0, 0].count_nonzero() == 1


def test_semantic_map_of_one_query():
    mask_logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    scores = torch.tensor([[0.2, 0.6]])
    semantic_map = reference_semantic_map(scores, mask_logits, (4, 4), (3, 4), (6, 8), torch.tensor([0.1, 0.0]))
    assert semantic_map.shape == (2, 6, 8)
    # Mask probabilities are 1 / 2 everywhere; gamma lowers the first class.
    torch.testing.assert_close(semantic_map[0], torch.full((6, 8), 0.0), atol=1e-7, rtol=0)
    torch.testing.assert_close(semantic_map[1], torch.full((6, 8), 0.3))


def test_is_a_scorer(tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    torch.manual_seed(0)
    scorer = CLIPCropScorer(CLIP, 'single', crop_mode=['cropmask', 'crop'], mask_dilation=1)
    reference = ReferenceScorer(scorer)
    assert isinstance(reference, BaseScorer) and reference.pruning is None and reference.merge_iou_thr is None
    image = 255 * torch.rand(3, 64, 96)
    mask_logits = torch.randn(4, 16, 24)
    vocabulary = Vocabulary(['sky', 'road'])
    (logits,) = reference.score_segments([image], [mask_logits], vocabulary, [(60, 90)])
    assert logits.shape == (4, 2)
    torch.testing.assert_close(logits, scorer(image, mask_logits, vocabulary, (60, 90)), atol=1e-4, rtol=0)
