"""Near-duplicates: shown to CLIP as one mask, once."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmzeg.apis import onnx_arrays
from mmzeg.models.scorers.mask_merging import merge_similar_masks


def segments():
    """Three masks of 12 x 14 pixels, each a pixel further right than the one before, and one elsewhere."""
    masks = torch.full((4, 20, 28), -6.0)
    for shift, mask in enumerate(masks[:3]):
        mask[2:14, 4 + shift : 18 + shift] = 6.0
    masks[3, 12:, :9] = 20.0
    return torch.tensor([2.0, 0.0, 1.0, 0.0]), masks


def test_duplicates_have_their_mean_mask():
    no_object, masks = segments()
    weights = 1 / (1 + no_object[:3].exp())
    mean = (weights[:, None, None] * masks[:3].sigmoid()).sum(0) / weights.sum()
    # IoU with the one in the middle, least like "no object", is 13 / 15; of the outer two with one another 12 / 16.
    merged = merge_similar_masks(no_object, masks, 0.86)
    for mask in merged[:3]:
        torch.testing.assert_close(mask.sigmoid(), mean)
    # One alone is as it was, and not as rounding would leave it.
    assert torch.equal(merged[3], masks[3])
    # With an outer one in that place the other outer one stays alone.
    merged = merge_similar_masks(no_object[[1, 0, 2, 3]], masks, 0.86)
    assert torch.equal(merged[0], merged[1]) and torch.equal(merged[2], masks[2])
    assert torch.equal(merge_similar_masks(no_object, masks, 0.9), masks)


@pytest.mark.parametrize('seed', range(3))
def test_merged_in_numpy_too(seed):
    """Twelve blobs, each nearly twice."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.nn.functional.interpolate(torch.randn(1, 12, 5, 6, generator=generator) * 8, size=(20, 24))[0]
    masks = torch.cat([blobs, blobs + torch.randn(12, 20, 24, generator=generator)])
    no_object = torch.randn(24, generator=generator)
    merged = merge_similar_masks(no_object, masks, 0.7)
    found = onnx_arrays.merge_similar_masks(no_object.numpy(), masks.numpy(), 0.7)
    np.testing.assert_allclose(torch.tensor(found).sigmoid(), merged.sigmoid(), atol=1e-6)
    assert (merged != masks).flatten(1).any(1).sum() >= 12


def test_empty_masks_are_not_duplicates():
    empty = torch.full((3, 4, 4), -5.0)
    assert torch.equal(merge_similar_masks(torch.zeros(3), empty, 0.5), empty)


@pytest.fixture
def merging(world):
    world.scorer.merge_iou_thr = 0.5
    return world


def test_clip_looks_once_at_what_is_one_thing(merging, monkeypatch):
    torch.manual_seed(0)
    model = MODELS.build(merging).eval()
    masks, class_logits = segments()[1], torch.zeros(1, 20, 43)
    few = masks[[0, 1, 3, 0, 1, 3, 2] + [3] * 13]
    monkeypatch.setattr(model.decode_head, 'forward', lambda *args, **fields: (class_logits[None], few[None, None]))
    shown, encode = [], type(model.scorer.clip).encode_image
    monkeypatch.setattr(
        type(model.scorer.clip), 'encode_image', lambda clip, x: shown.append(len(x)) or encode(clip, x)
    )
    meta = dict(ori_shape=(80, 112), img_shape=(80, 112), pad_shape=(80, 112))
    picture = torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        logits = model.predict_logits(picture, [meta])[2][0]
    assert sum(shown) == 2 * len(model.scorer.styles)
    assert torch.equal(logits[0], logits[6]) and not torch.equal(logits[0], logits[2])
    # In their own order, as the merged masks alone would be answered.
    merged = merge_similar_masks(class_logits[0, :, -1], few, 0.5)[[0, 2]]
    alone = model._ask(model.denormalize(picture), [merged], [(80, 112)])[0]
    torch.testing.assert_close(logits[[0, 2]], alone)


def test_a_pruned_model_asks_about_merged_masks(merging):
    merging.scorer.pruning = dict(type='mmzeg.ThresholdPruning', threshold=0.0)
    meta = dict(ori_shape=(80, 112), img_shape=(80, 112), pad_shape=(80, 112))
    torch.manual_seed(0)
    model, picture = MODELS.build(merging).eval(), torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        pruned = model.predict_logits(picture, [meta])[2]
        model.scorer.pruning = None
        torch.testing.assert_close(pruned, model.predict_logits(picture, [meta])[2])
        model.scorer.merge_iou_thr = None
        assert not torch.allclose(pruned, model.predict_logits(picture, [meta])[2])


@pytest.mark.parametrize('iou', [0, -0.5, 1.1])
def test_bad_fields(world, iou):
    world.scorer.merge_iou_thr = iou
    with pytest.raises(ValueError, match='merge_iou_thr'):
        MODELS.build(world)
