"""Near-duplicate masks are scored as one mask."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmzeg.deployment import onnx_arrays
from mmzeg.models.scorers.mask_merging import merge_similar_masks

META = dict(ori_shape=(80, 112), img_shape=(80, 112), pad_shape=(80, 112))


def near_duplicates():
    """Return "no object" logits and masks: three of 12 x 14 pixels, each shifted by a pixel, and a distant one."""
    masks = torch.full((4, 20, 28), -6.0)
    for shift, mask in enumerate(masks[:3]):
        mask[2:14, 4 + shift : 18 + shift] = 6.0
    masks[3, 12:, :9] = 20.0
    return torch.tensor([2.0, 0.0, 1.0, 0.0]), masks


def test_near_duplicates_get_their_mean_mask():
    no_object, masks = near_duplicates()
    weights = 1 / (1 + no_object[:3].exp())
    mean = (weights[:, None, None] * masks[:3].sigmoid()).sum(0) / weights.sum()
    # The middle mask, the most confident one, has an IoU of 13 / 15 with the outer two, which have 12 / 16.
    merged = merge_similar_masks(no_object, masks, 0.86)
    for mask in merged[:3]:
        torch.testing.assert_close(mask.sigmoid(), mean)
    # A mask without near-duplicates keeps its exact logits.
    assert torch.equal(merged[3], masks[3])
    # If an outer mask is the most confident one, the other outer mask is not merged.
    merged = merge_similar_masks(no_object[[1, 0, 2, 3]], masks, 0.86)
    assert torch.equal(merged[0], merged[1]) and torch.equal(merged[2], masks[2])
    assert torch.equal(merge_similar_masks(no_object, masks, 0.9), masks)


@pytest.mark.parametrize('seed', range(3))
def test_numpy_merges_the_same_masks(seed):
    """Twelve blobs, each with a near-duplicate."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.nn.functional.interpolate(torch.randn(1, 12, 5, 6, generator=generator) * 8, size=(20, 24))[0]
    masks = torch.cat([blobs, blobs + torch.randn(12, 20, 24, generator=generator)])
    no_object = torch.randn(24, generator=generator)
    merged = merge_similar_masks(no_object, masks, 0.7)
    numpy_merged = onnx_arrays.merge_similar_masks(no_object.numpy(), masks.numpy(), 0.7)
    np.testing.assert_allclose(torch.tensor(numpy_merged).sigmoid(), merged.sigmoid(), atol=1e-6)
    assert (merged != masks).flatten(1).any(1).sum() >= 12


def test_empty_masks_are_not_merged():
    empty_masks = torch.full((3, 4, 4), -5.0)
    assert torch.equal(merge_similar_masks(torch.zeros(3), empty_masks, 0.5), empty_masks)


@pytest.fixture
def merging(world):
    """Return a model config whose scorer merges near-duplicates."""
    world.scorer.merge_iou_thr = 0.5
    return world


def test_near_duplicates_are_encoded_once(merging, monkeypatch):
    torch.manual_seed(0)
    model = MODELS.build(merging).eval()
    _, masks = near_duplicates()
    class_logits = torch.zeros(1, 20, 43)
    mask_logits = masks[[0, 1, 3, 0, 1, 3, 2] + [3] * 13]
    outputs = class_logits[None], mask_logits[None, None]
    monkeypatch.setattr(model.decode_head, 'forward', lambda *args, **fields: outputs)
    num_crops = []
    clip_class = type(model.scorer.clip)
    encode_image = clip_class.encode_image

    def encode_and_count(clip, crops):
        num_crops.append(len(crops))
        return encode_image(clip, crops)

    monkeypatch.setattr(clip_class, 'encode_image', encode_and_count)
    inputs = torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        _, _, clip_logits = model.predict_logits(inputs, [META])
    logits = clip_logits[0]
    assert sum(num_crops) == 2 * len(model.scorer.crop_modes)
    assert torch.equal(logits[0], logits[6]) and not torch.equal(logits[0], logits[2])
    # In the order of the queries, the logits are those of the merged masks alone.
    merged = merge_similar_masks(class_logits[0, :, -1], mask_logits, 0.5)[[0, 2]]
    images = model.denormalize(inputs)
    expected = model.scorer.score_segments(images, [merged], model.vocabulary, [(80, 112)])[0]
    torch.testing.assert_close(logits[[0, 2]], expected)


def test_a_pruned_model_scores_merged_masks(merging):
    merging.scorer.pruning = dict(type='mmzeg.ThresholdPruning', score_thr=0.0)
    torch.manual_seed(0)
    model = MODELS.build(merging).eval()
    inputs = torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        _, _, pruned_logits = model.predict_logits(inputs, [META])
        model.scorer.pruning = None
        _, _, merged_logits = model.predict_logits(inputs, [META])
        model.scorer.merge_iou_thr = None
        _, _, unmerged_logits = model.predict_logits(inputs, [META])
    torch.testing.assert_close(pruned_logits, merged_logits)
    assert not torch.allclose(pruned_logits, unmerged_logits)


@pytest.mark.parametrize('merge_iou_thr', [0, -0.5, 1.1])
def test_bad_fields(world, merge_iou_thr):
    world.scorer.merge_iou_thr = merge_iou_thr
    with pytest.raises(ValueError, match='merge_iou_thr'):
        MODELS.build(world)
