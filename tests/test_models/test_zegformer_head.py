"""ZegFormerHead: targets, matching, losses and decoders."""

import numpy as np
import pytest
import torch

from mmzeg.registry import MODELS


def test_an_image_without_targets_trains(camvid, labelled_batch):
    model = MODELS.build(camvid)
    losses = model.loss(*labelled_batch(255))
    assert losses['decode.loss_mask'] == 0 and losses['decode.loss_cls'] > 0
    sum(losses.values()).backward()


def layer_losses(head, samples, class_logits, mask_logits):
    """Return the matched query and target indices, and the losses of one decoder layer."""
    targets = head.build_targets(samples)
    (query_targets,) = head.query_targets(class_logits[None], mask_logits[None], targets)
    losses = head._layer_loss(class_logits, mask_logits, query_targets, targets, torch.tensor(2.0))
    return [query_targets.queries.tolist(), query_targets.targets.tolist()], losses


def test_masks_on_ignored_pixels_change_no_mask_loss(camvid, labelled_batch):
    _, samples = labelled_batch(3)
    torch.manual_seed(0)
    class_logits = torch.randn(1, 30, 12)
    mask_logits = torch.randn(1, 30, 16, 16)
    changed_logits = mask_logits.clone()
    # Rows 8 to 15 are unlabelled; interpolation spreads row 8 to row 7.
    changed_logits[:, :, 9:] += 3 * torch.randn(1, 30, 7, 16)
    released_head = MODELS.build(camvid).decode_head
    camvid.decode_head.ignore_unlabelled_in_masks = True
    head = MODELS.build(camvid).decode_head

    matches, losses = layer_losses(head, samples, class_logits, mask_logits)
    changed_matches, changed_losses = layer_losses(head, samples, class_logits, changed_logits)
    assert changed_matches == matches
    assert changed_losses['loss_mask'] == losses['loss_mask']
    assert changed_losses['loss_dice'] == losses['loss_dice']
    _, released_losses = layer_losses(released_head, samples, class_logits, mask_logits)
    _, changed_released_losses = layer_losses(released_head, samples, class_logits, changed_logits)
    assert changed_released_losses != released_losses

    # Where all pixels are labelled, both heads agree.
    samples[0].gt_sem_seg.data[:, 32:] = 5
    matches, losses = layer_losses(head, samples, class_logits, changed_logits)
    released_matches, released_losses = layer_losses(released_head, samples, class_logits, changed_logits)
    assert matches == released_matches
    for name, loss in losses.items():
        torch.testing.assert_close(loss, released_losses[name])


def test_no_object_loss_skips_masks_on_ignored_pixels(camvid, labelled_batch):
    torch.manual_seed(0)
    class_logits = torch.randn(1, 30, 12)
    # Ten masks lie on unlabelled pixels, twenty on labelled ones.
    mask_logits = torch.full((1, 30, 16, 16), -5.0)
    mask_logits[:, :10, 9:] = 5.0
    mask_logits[:, 10:, :8] = 5.0
    _, samples = labelled_batch(3)
    for ignore_unlabelled in (True, False):
        camvid.decode_head.ignore_unlabelled_in_masks = ignore_unlabelled
        head = MODELS.build(camvid).decode_head
        logits = class_logits.clone().requires_grad_()
        (queries, _), losses = layer_losses(head, samples, logits, mask_logits)
        assert min(queries) >= 10
        losses['loss_cls'].backward()
        assert (logits.grad[0, :10].abs().sum() > 0) == (not ignore_unlabelled)
        assert logits.grad[0, 10:].abs().sum() > 0


def test_masked_attention_gets_the_cells_under_the_masks(camvid, labelled_batch):
    """The decoder's memory cells are those where the mask logits are above 0 on average."""
    camvid.decode_head.masked_attention = True
    model = MODELS.build(camvid)
    head = model.decode_head
    mask_predictors = []
    decode = head.transformer_decoder.forward

    def forward(**inputs):
        mask_predictors.append(inputs['predict_masks'])
        return decode(**inputs)

    head.transformer_decoder.forward = forward
    inputs, samples = labelled_batch(3, 7)
    _, mask_logits = head(model.eval().extract_feat(inputs))
    losses = model.train().loss(inputs, samples)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters() if parameter.requires_grad)
    assert mask_logits.shape[-2:] == (16, 16) and len(mask_predictors) == 2

    segment_embeddings = torch.randn(2, 30, head.transformer_decoder.embed_dims)
    mask_features, memory = head.decode_pixels(model.eval().extract_feat(inputs))
    masks = torch.einsum('bqc,bchw->bqhw', head.mask_embed(segment_embeddings), mask_features)
    expected = torch.nn.functional.avg_pool2d(masks, masks.shape[-1] // memory.shape[-1]).flatten(2) > 0
    head(model.extract_feat(inputs))
    assert torch.equal(mask_predictors[-1](segment_embeddings), expected)


def test_mixed_precision_trains(camvid, labelled_batch):
    torch.manual_seed(0)
    model = MODELS.build(camvid)
    inputs, samples = labelled_batch(3, 4)
    expected = model.loss(inputs, samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(inputs, samples)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.1, atol=0.05)
    sum(losses.values()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_float16_keeps_every_loss_term_and_its_value(camvid, labelled_batch, monkeypatch):
    model = MODELS.build(camvid)
    head = model.decode_head
    _, samples = labelled_batch(3, 4, side=256)
    num_classes = len(head.classifier.train_vocabulary)
    class_logits = torch.randn(3, 2, 20, num_classes + 1).half()
    mask_logits = torch.randn(3, 2, 20, 64, 64).half()
    losses = []
    for dtype in (torch.float32, torch.float16):
        outputs = class_logits.to(dtype), mask_logits
        monkeypatch.setattr(type(head), 'forward', lambda *_, outputs=outputs: outputs)
        losses.append(head.loss((), samples, {}))
    # Half precision cannot count the pixels of 2 masks of 65536 pixels: divided by infinity, the mask loss is 0.
    assert all(loss > 0 for loss in losses[1].values())
    torch.testing.assert_close(losses[1], losses[0], check_dtype=False)


def test_an_unknown_label_value_names_the_file(camvid, labelled_batch):
    model = MODELS.build(camvid)
    with pytest.raises(ValueError, match='11.png: label value 11 reached the loss'):
        model.loss(*labelled_batch(3, 11))


@pytest.mark.parametrize('pixel_decoder', ['transformer', 'deformable'])
def test_pixel_decoders_with_attention_train(camvid, labelled_batch, pixel_decoder):
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
    camvid.decode_head.pixel_decoder = decoder
    model = MODELS.build(camvid)
    sum(model.loss(*labelled_batch(3, 4)).values()).backward()


@pytest.mark.parametrize('ignore_unlabelled', [False, True])
def test_one_query_for_two_objects(camvid, labelled_batch, ignore_unlabelled):
    camvid.decode_head.update(num_queries=1, ignore_unlabelled_in_masks=ignore_unlabelled)
    model = MODELS.build(camvid)
    inputs, samples = labelled_batch(3)
    samples[0].gt_sem_seg.data[:, :, 32:] = 4
    losses = model.loss(inputs, samples)
    assert all(torch.isfinite(loss) for name, loss in losses.items() if 'loss' in name)
    (sample,) = model.eval().predict(inputs)
    assert sample.pred_sem_seg.shape == (64, 64)


@pytest.mark.parametrize('fields', [{}, dict(ignore_unlabelled_in_masks=True, masked_attention=True)])
def test_checkpointing_changes_no_loss_and_no_gradient(camvid, labelled_batch, fields):
    results = []
    for with_cp in (False, True):
        camvid.decode_head.update(fields, with_cp=with_cp)
        torch.manual_seed(0)
        model = MODELS.build(camvid)
        inputs, samples = labelled_batch(3)
        torch.manual_seed(1)
        losses = model.loss(inputs, samples)
        sum(losses.values()).backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append((losses, gradients))
    torch.testing.assert_close(*results)


def test_layers_are_matched_independently(camvid, labelled_batch):
    head = MODELS.build(camvid).decode_head
    torch.manual_seed(0)
    samples = labelled_batch(3)[1] + labelled_batch(255)[1] + labelled_batch(4)[1]
    targets = head.build_targets(samples)
    class_logits = torch.randn(4, 3, 30, 12)
    mask_logits = torch.randn(4, 3, 30, 16, 16)
    all_matches = head.match(class_logits, mask_logits, targets)
    for layer in range(4):
        (layer_matches,) = head.match(class_logits[layer, None], mask_logits[layer, None], targets)
        np.testing.assert_equal(all_matches[layer], layer_matches)
    assert [len(queries) for queries, _ in all_matches[0]] == targets.num_targets == [1, 0, 1]


def test_weights_from_a_file_are_not_initialized(camvid, tmp_path):
    path = tmp_path / 'head.pth'
    torch.save(MODELS.build(camvid).decode_head.state_dict(), path)
    camvid.decode_head.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    head = MODELS.build(camvid).decode_head
    head.init_weights()
    assert all(torch.equal(weight, head.state_dict()[name]) for name, weight in torch.load(path).items())


def test_the_classifier_always_has_no_object(camvid):
    camvid.decode_head.classifier.no_object = False
    assert MODELS.build(camvid).decode_head.classifier.no_object is not None
