"""The segmentor on its own: what a checkpoint holds, and what it refuses."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmzeg.registry import MODELS

CONFIG = Path(__file__).parents[2] / 'configs' / 'zegformer_r18_camvid.py'


@pytest.fixture
def cfg():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return Config.fromfile(CONFIG).model


def batch(*values, side=64):
    samples = []
    for value in values:
        sample = SegDataSample(metainfo=dict(img_path=f'{value}.jpg', seg_map_path=f'{value}.png'))
        data = torch.full((1, side, side), 255)
        data[:, : side // 2] = value
        sample.gt_sem_seg = PixelData(data=data)
        samples.append(sample)
    return torch.randn(len(values), 3, side, side), samples


def test_an_image_without_targets_trains(cfg):
    model = MODELS.build(cfg)
    losses = model.loss(*batch(255))
    assert losses['decode.loss_mask'] == 0 and losses['decode.loss_cls'] > 0
    sum(losses.values()).backward()


def test_unlabelled_pixels_say_nothing_where_they_are_ignored(cfg):
    def layer_losses(head, mask_logits):
        targets = [head._targets(sample) for sample in samples]
        (matches,) = head.match(class_logits[None], mask_logits[None], targets)
        losses = head._layer_loss(class_logits, mask_logits, targets, matches, torch.tensor(2.0))
        return [pair.tolist() for pair in matches[0]], losses

    _, samples = batch(3)
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(1, 30, 12), torch.randn(1, 30, 16, 16)
    other = mask_logits.clone()
    other[:, :, 9:] += 3 * torch.randn(1, 30, 7, 16)  # rows 8 to 15 hold no label; 8 reaches row 7 by interpolation
    released = MODELS.build(cfg).decode_head
    cfg.decode_head.ignore_unlabelled_in_masks = True
    ours = MODELS.build(cfg).decode_head
    (match, wanted), (other_match, found) = layer_losses(ours, mask_logits), layer_losses(ours, other)
    assert match == other_match
    assert (found['loss_mask'], found['loss_dice']) == (wanted['loss_mask'], wanted['loss_dice'])
    assert layer_losses(released, other)[1] != layer_losses(released, mask_logits)[1]
    samples[0].gt_sem_seg.data[:, 32:] = 5  # with a label everywhere the two are one
    (match, losses), (other_match, other_losses) = layer_losses(ours, other), layer_losses(released, other)
    assert match == other_match
    for name, loss in losses.items():
        torch.testing.assert_close(loss, other_losses[name])


def test_queries_look_where_their_masks_are(cfg):
    """The cells that the decoder is given are those where the mask logits are above 0 on average."""
    cfg.decode_head.masked_attention = True
    model = MODELS.build(cfg)
    head = model.decode_head
    given = []
    decode = head.transformer_decoder.forward
    head.transformer_decoder.forward = lambda **fields: given.append(fields['inside']) or decode(**fields)
    inputs, samples = batch(3, 7)
    _, mask_logits = head(model.eval().extract_feat(inputs))
    losses = model.train().loss(inputs, samples)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters() if parameter.requires_grad)
    assert mask_logits.shape[-2:] == (16, 16) and len(given) == 2
    segments = torch.randn(2, 30, head.transformer_decoder.embed_dims)
    features, memory = head.decode_pixels(model.eval().extract_feat(inputs))
    wanted = torch.einsum('bqc,bchw->bqhw', head.mask_embed(segments), features)
    wanted = torch.nn.functional.avg_pool2d(wanted, wanted.shape[-1] // memory.shape[-1]).flatten(2) > 0
    head(model.extract_feat(inputs))
    assert torch.equal(given[-1](segments), wanted)


def test_no_object_is_not_taught_where_nothing_is_labelled(cfg):
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(1, 30, 12), torch.full((1, 30, 16, 16), -5.0)
    mask_logits[:, :10, 9:], mask_logits[:, 10:, :8] = (
        5.0,
        5.0,
    )  # ten where there is no label, the others where there is
    _, samples = batch(3)
    for taught in (False, True):
        cfg.decode_head.ignore_unlabelled_in_masks = not taught
        head = MODELS.build(cfg).decode_head
        targets = [head._targets(sample) for sample in samples]
        (matches,) = head.match(class_logits[None], mask_logits[None], targets)
        assert matches[0][0].min() >= 10
        logits = class_logits.clone().requires_grad_()
        head._layer_loss(logits, mask_logits, targets, matches, torch.tensor(1.0))['loss_cls'].backward()
        assert (logits.grad[0, :10].abs().sum() > 0) == taught and logits.grad[0, 10:].abs().sum() > 0


def test_mixed_precision_trains(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    inputs, samples = batch(3, 4)
    wanted = model.loss(inputs, samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(inputs, samples)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, wanted[name], rtol=0.1, atol=0.05)
    sum(losses.values()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_masks_are_learnt_in_float16(cfg, monkeypatch):
    model = MODELS.build(cfg)
    head, samples = model.decode_head, batch(3, 4, side=256)[1]
    shapes = (3, 2, 20, len(head.classifier.train_vocabulary) + 1), (3, 2, 20, 64, 64)
    class_logits, mask_logits = (torch.randn(shape).half() for shape in shapes)
    found = []
    for dtype in (torch.float32, torch.float16):
        monkeypatch.setattr(type(head), 'forward', lambda *_, dtype=dtype: (class_logits.to(dtype), mask_logits))
        found.append(head.loss((), samples, {}))
    # 2 masks of 65536 pixels are more than half precision can count.
    assert found[0]['loss_mask'] > 0
    torch.testing.assert_close(found[1], found[0], check_dtype=False)


def test_an_unknown_label_names_the_file(cfg):
    model = MODELS.build(cfg)
    with pytest.raises(ValueError, match='11.png: label value 11 reached the loss'):
        model.loss(*batch(3, 11))


def test_nan_names_the_files(cfg):
    model = MODELS.build(cfg)
    model.decode_head.classifier.no_object.data.fill_(torch.nan)
    MessageHub.get_current_instance().update_info('iter', 7)  # as the runner does
    with pytest.raises(FloatingPointError, match='iteration 7, batch 3.jpg, 4.jpg: .* not finite'):
        model.loss(*batch(3, 4))


def test_vocabulary_is_swapped_without_a_weight(cfg):
    model = MODELS.build(cfg).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.set_vocabulary(['car', 'tree'])
    assert model.predict(torch.randn(1, 3, 64, 64))[0].seg_logits.data.shape[0] == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_labels_alone_are_the_same_labels(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    opinions = 3 * torch.randn(1, 30, 12), 4 * torch.randn(1, 30, 16, 24), None
    model.opinions = lambda inputs, metas: opinions
    meta = dict(img_path='a.jpg', ori_shape=(50, 70), img_shape=(60, 84), padding_size=(0, 12, 0, 4))
    found = []
    for labels_only in (False, True):
        model.test_cfg.labels_only = labels_only
        (sample,) = model.predict(torch.zeros(1, 3, 64, 96), [SegDataSample(metainfo=meta)])
        assert ('seg_logits' in sample) != labels_only
        found.append(sample.pred_sem_seg.data)
    assert found[0].shape == (1, 50, 70) and len(found[0].unique()) > 5
    assert (found[0] == found[1]).float().mean() > 0.999


def test_a_vocabulary_of_one_class(cfg):
    model = MODELS.build(cfg).eval()
    model.set_vocabulary(['car'])
    (found,) = model.predict(torch.randn(1, 3, 64, 96))
    assert found.seg_logits.shape == (64, 96) and found.seg_logits.data.shape[0] == 1
    assert not found.pred_sem_seg.data.any()


def test_checkpoint_of_another_model_is_refused(cfg):
    weights = MODELS.build(cfg).state_dict()
    cfg.decode_head.num_queries = 7
    other = MODELS.build(cfg)
    with pytest.raises(ValueError, match='another width or backbone: decode_head.query_embed'):
        other.load_state_dict(weights)
    with pytest.raises(ValueError, match='lacks'):
        other.load_state_dict({name: tensor for name, tensor in weights.items() if 'query' not in name})


def test_fusion_without_a_scorer_is_refused(cfg):
    cfg.fusion.mode = 'full'
    with pytest.raises(ValueError, match="needs CLIP's opinion"):
        MODELS.build(cfg)


@pytest.mark.parametrize('pixel_decoder', ['transformer', 'deformable'])
def test_other_pixel_decoders(cfg, pixel_decoder):
    encoder_layer = dict(
        self_attn_cfg=dict(embed_dims=64, num_heads=4),
        ffn_cfg=dict(embed_dims=64, feedforward_channels=64),
    )
    common = dict(norm_cfg=dict(type='GN', num_groups=8), act_cfg=dict(type='ReLU'))
    if pixel_decoder == 'transformer':
        decoder = dict(
            common,
            type='mmdet.TransformerEncoderPixelDecoder',
            encoder=dict(num_layers=1, layer_cfg=encoder_layer),
            positional_encoding=dict(num_feats=32, normalize=True),
        )
    else:
        deformable = dict(embed_dims=64, num_heads=4, num_levels=3, num_points=2, batch_first=True)
        decoder = dict(
            common,
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            encoder=dict(num_layers=1, layer_cfg=dict(encoder_layer, self_attn_cfg=deformable)),
            positional_encoding=dict(num_feats=32, normalize=True),
        )
    cfg.decode_head.pixel_decoder = decoder
    model = MODELS.build(cfg)
    sum(model.loss(*batch(3, 4)).values()).backward()


@pytest.mark.parametrize('fields', [{}, dict(ignore_unlabelled_in_masks=True, masked_attention=True)])
def test_checkpointing_changes_no_loss_and_no_gradient(cfg, fields):
    found = []
    for with_cp in (False, True):
        cfg.decode_head.update(fields, with_cp=with_cp)
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        inputs, samples = batch(3)
        torch.manual_seed(1)
        losses = model.loss(inputs, samples)
        sum(losses.values()).backward()
        found.append((losses, [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found)


def test_all_layers_are_matched_as_each_alone(cfg):
    head = MODELS.build(cfg).decode_head
    torch.manual_seed(0)
    samples = batch(3)[1] + batch(255)[1] + batch(4)[1]
    targets = [head._targets(sample) for sample in samples]
    class_logits, mask_logits = torch.randn(4, 3, 30, 12), torch.randn(4, 3, 30, 16, 16)
    together = head.match(class_logits, mask_logits, targets)
    for layer in range(4):
        (alone,) = head.match(class_logits[layer, None], mask_logits[layer, None], targets)
        for one, other in zip(together[layer], alone, strict=True):
            torch.testing.assert_close(one, other)
    assert [len(queries) for queries, _ in together[0]] == [len(labels) for labels, _, _ in targets]


def test_weights_of_a_head_stay_as_loaded(cfg, tmp_path):
    path = tmp_path / 'head.pth'
    torch.save(MODELS.build(cfg).decode_head.state_dict(), path)
    cfg.decode_head.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    head = MODELS.build(cfg).decode_head
    head.init_weights()
    assert all(torch.equal(weight, head.state_dict()[name]) for name, weight in torch.load(path).items())


def test_segments_always_have_no_object(cfg):
    cfg.decode_head.classifier.no_object = False
    assert MODELS.build(cfg).decode_head.classifier.no_object is not None


def test_labels_alone_of_a_flipped_picture(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    picture, meta = torch.randn(1, 3, 64, 96), dict(ori_shape=(64, 96), flip=True, flip_direction='horizontal')
    found = []
    for labels_only in (False, True):
        model.test_cfg.labels_only = labels_only
        with torch.no_grad():
            (sample,) = model.predict(picture, [SegDataSample(metainfo=meta)])
        found.append(sample.pred_sem_seg.data)
    assert torch.equal(*found)


def test_pictures_are_tested_whole_where_nothing_is_said(cfg):
    del cfg.test_cfg
    assert MODELS.build(cfg).test_cfg.mode == 'whole'


def test_tta_averages_maps(cfg):
    model = MODELS.build(dict(type='mmzeg.ZeroShotTTAModel', module=cfg))
    maps = torch.rand(2, 5, 40, 40, generator=torch.Generator().manual_seed(0))
    samples = [SegDataSample(seg_logits=PixelData(data=one)) for one in maps]
    (found,) = model.merge_preds([samples])
    torch.testing.assert_close(found.seg_logits.data, maps.mean(0))
    assert torch.equal(found.pred_sem_seg.data[0], maps.mean(0).argmax(0))
    # mmseg's own has other labels here.
    assert not torch.equal(found.pred_sem_seg.data[0], maps.softmax(1).mean(0).argmax(0))
