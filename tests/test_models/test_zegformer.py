"""ZegFormer: label maps with and without semantic maps, precision, and sliding windows."""

import pytest
import torch
from mmseg.structures import SegDataSample

from mmzeg.registry import MODELS


def test_labels_equal_those_of_the_semantic_map(camvid):
    torch.manual_seed(0)
    model = MODELS.build(camvid).eval()
    logits = 3 * torch.randn(1, 30, 12), 4 * torch.randn(1, 30, 16, 24), None
    model.predict_logits = lambda inputs, metas: logits
    meta = dict(img_path='a.jpg', ori_shape=(50, 70), img_shape=(60, 84), padding_size=(0, 12, 0, 4))
    label_maps = []
    for return_logits in (True, False):
        model.test_cfg.return_logits = return_logits
        (sample,) = model.predict(torch.zeros(1, 3, 64, 96), [SegDataSample(metainfo=meta)])
        assert ('seg_logits' in sample) == return_logits
        label_maps.append(sample.pred_sem_seg.data)
    assert label_maps[0].shape == (1, 50, 70) and len(label_maps[0].unique()) > 5
    assert (label_maps[0] == label_maps[1]).float().mean() > 0.999


def test_labels_of_a_flipped_image(camvid):
    torch.manual_seed(0)
    model = MODELS.build(camvid).eval()
    inputs = torch.randn(1, 3, 64, 96)
    meta = dict(ori_shape=(64, 96), flip=True, flip_direction='horizontal')
    label_maps = []
    for return_logits in (True, False):
        model.test_cfg.return_logits = return_logits
        with torch.no_grad():
            (sample,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
        label_maps.append(sample.pred_sem_seg.data)
    assert torch.equal(*label_maps)


def test_fusion_without_a_scorer_is_refused(camvid):
    camvid.fusion.mode = 'full'
    with pytest.raises(ValueError, match='needs CLIP logits'):
        MODELS.build(camvid)


@pytest.mark.parametrize('pruning', [None, 'Guaranteed', 'Threshold'])
def test_autocast_changes_no_score(world, pruning):
    """Only the network runs in half precision."""
    world.fusion.lam = 0.5
    world.scorer.pruning = pruning and dict(type=f'mmzeg.{pruning}Pruning')
    model = MODELS.build(world).eval()
    outputs = 3 * torch.randn(2, 1, 20, 43), 4 * torch.randn(2, 1, 20, 24, 32)
    model.decode_head.forward = lambda *_, **__: outputs
    inputs = torch.randn(1, 3, 96, 128)
    semantic_maps = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            semantic_maps.append(model.encode_decode(inputs, [dict(ori_shape=(96, 128))]))
    assert torch.equal(*semantic_maps)


def test_sliding_windows_ignore_the_padding_of_the_image(world):
    world.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    model = MODELS.build(world).eval()
    score_segments = model.scorer.score_segments
    window_sizes = []

    def record_sizes(images, mask_logits, vocabulary, valid_sizes):
        window_sizes.extend(valid_sizes)
        return score_segments(images, mask_logits, vocabulary, valid_sizes)

    model.scorer.score_segments = record_sizes
    meta = dict(ori_shape=(90, 120), img_shape=(90, 120), padding_size=(0, 8, 0, 6))
    with torch.no_grad():
        model.predict(torch.randn(1, 3, 96, 128), [SegDataSample(metainfo=meta)])
    assert set(window_sizes) == {(64, 64)}
