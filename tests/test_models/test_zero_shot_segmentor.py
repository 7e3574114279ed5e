"""ZeroShotSegmentor: vocabulary, refused checkpoints, and defaults of the test configuration."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import PixelData

from mmzeg.registry import MODELS


def test_a_loss_of_nan_names_the_files(camvid, labelled_batch):
    model = MODELS.build(camvid)
    model.decode_head.classifier.no_object.data.fill_(torch.nan)
    MessageHub.get_current_instance().update_info('iter', 7)  # as the runner does
    with pytest.raises(FloatingPointError, match='iteration 7, batch 3.jpg, 4.jpg: .* not finite'):
        model.loss(*labelled_batch(3, 4))


def test_setting_a_vocabulary_changes_no_weight(camvid):
    model = MODELS.build(camvid).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.set_vocabulary(['car', 'tree'])
    assert model.predict(torch.randn(1, 3, 64, 64))[0].seg_logits.data.shape[0] == 2
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_vocabulary_of_one_class(camvid):
    model = MODELS.build(camvid).eval()
    model.set_vocabulary(['car'])
    (sample,) = model.predict(torch.randn(1, 3, 64, 96))
    assert sample.seg_logits.shape == (64, 96) and sample.seg_logits.data.shape[0] == 1
    assert not sample.pred_sem_seg.data.any()


def test_a_checkpoint_of_another_model_is_refused(camvid):
    weights = MODELS.build(camvid).state_dict()
    camvid.decode_head.num_queries = 7
    model = MODELS.build(camvid)
    with pytest.raises(ValueError, match='another width or backbone: decode_head.query_embed'):
        model.load_state_dict(weights)
    with pytest.raises(ValueError, match='lacks'):
        model.load_state_dict({name: tensor for name, tensor in weights.items() if 'query' not in name})


def test_nan_weights_are_refused_however_they_are_loaded(camvid):
    """Every label would be the first class, without a word; MMEngine and mmseg load files themselves."""
    model = MODELS.build(camvid)
    weights = model.state_dict()
    weights['decode_head.query_embed.weight'] = torch.full_like(weights['decode_head.query_embed.weight'], torch.nan)
    with pytest.raises(ValueError, match='the checkpoint: decode_head.query_embed.weight is NaN'):
        model.load_state_dict(weights)


@pytest.mark.parametrize('backbone_type', ['BEiT', 'MAE'])
def test_backbones_of_a_fixed_input_size(camvid, labelled_batch, backbone_type):
    """The channels are probed at the backbone's size, the loss takes crops of it, and windows any image."""
    width = 24
    camvid.backbone = dict(
        type=backbone_type, img_size=(96, 64), embed_dims=width, num_layers=4, num_heads=2, out_indices=[0, 1, 2, 3]
    )
    camvid.neck = dict(type='Feature2Pyramid', embed_dim=width, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN'))
    camvid.test_cfg = dict(mode='slide', crop_size=(96, 64), stride=(64, 48))
    model = MODELS.build(camvid)
    assert [conv.conv.in_channels for conv in model.decode_head.pixel_decoder.lateral_convs] == [width] * 3
    maps = model.extract_feat(torch.randn(1, 3, 96, 64))
    assert [tuple(feature.shape[-2:]) for feature in maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]

    _, samples = labelled_batch(3, 4, side=96)
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[..., :64])
    losses = model.loss(torch.randn(2, 3, 96, 64), samples)
    sum(loss for name, loss in losses.items() if 'loss' in name).backward()
    assert model.backbone.patch_embed.projection.weight.grad.abs().sum() > 0

    image = torch.randn(1, 3, 120, 100)
    (sample,) = model.eval().predict(image)
    assert sample.seg_logits.shape == (120, 100)
    model.test_cfg.mode = 'whole'
    message = rf"{backbone_type} takes images of 96 x 64 only, and gets 120 x 100: .*mode='slide', crop_size=\(96, 64\)"
    with pytest.raises(ValueError, match=message):
        model.predict(image)


@pytest.mark.parametrize('in_channels', [1, 4])
def test_a_backbone_of_other_channels_than_rgb_is_refused(camvid, in_channels):
    camvid.backbone.in_channels = in_channels
    with pytest.raises(ValueError, match=f'backbone.in_channels={in_channels}: images have 3 channels'):
        MODELS.build(camvid)


def test_the_default_test_mode_is_whole(camvid):
    del camvid.test_cfg
    assert MODELS.build(camvid).test_cfg.mode == 'whole'
