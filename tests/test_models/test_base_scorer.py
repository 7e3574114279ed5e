"""A scorer that defines only ``encode`` and ``classify`` works wherever a scorer is used."""

import math

import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmzeg.models.scorers import BaseScorer
from mmzeg.models.scorers.crops import mask_probabilities

# An image with padding at the right and below
META = dict(ori_shape=(100, 130), img_shape=(90, 120), padding_size=(0, 8, 0, 6))
VALID_SIZE = (90, 120)


class MeanColourScorer(BaseScorer):
    """Classify a segment by the distance of its mean colour to a colour per class name."""

    def encode(self, image, mask_logits, valid_size):
        height, width = valid_size
        pixels = image[:, :height, :width] / 255
        masks = mask_probabilities(mask_logits, image.shape[-2:])[:, :height, :width]
        return torch.einsum('qhw,chw->qc', masks, pixels) / masks.sum((1, 2))[:, None]

    def classify(self, embeddings, vocabulary):
        colours = []
        for name in vocabulary.names:
            generator = torch.Generator().manual_seed(sum(name.encode()))
            colours.append(torch.rand(3, generator=generator))
        return -40 * torch.cdist(embeddings, torch.stack(colours))


class SegmentCounter:
    """Wrap ``score_segments`` of a scorer and count the segments."""

    def __init__(self, scorer):
        self.score_segments = scorer.score_segments
        self.num_segments = 0
        scorer.score_segments = self

    def __call__(self, images, mask_logits, vocabulary, valid_sizes):
        self.num_segments += sum(map(len, mask_logits))
        return self.score_segments(images, mask_logits, vocabulary, valid_sizes)


@pytest.fixture
def cfg(world):
    """Return a model config with the scorer, in which the head and the scorer weigh the same."""
    world.scorer = dict(type=MeanColourScorer)
    world.fusion.lam = 0.5
    return world


@pytest.fixture
def inputs():
    """Return two images, each of random colour in every quarter."""
    colours = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(colours, size=(96, 128))


def build_model(cfg):
    """Build the model of a seed, with half of its queries "no object" for certain, and with different masks."""
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    head = model.decode_head
    encode_segments = head.encode_segments
    offsets = 4 * torch.randn(20, 24, 32)

    def encode_with_offsets(x, last_layer_only=False):
        segment_embeddings, mask_logits = encode_segments(x, last_layer_only)
        return segment_embeddings, mask_logits + offsets

    classify = head.classifier.forward

    def classify_with_no_object(segment_embeddings, text):
        class_logits = classify(segment_embeddings, text)
        class_logits[..., ::2, -1] += 40
        return class_logits

    head.encode_segments = encode_with_offsets
    head.classifier.forward = classify_with_no_object
    return model


def samples():
    """Return the samples of two images."""
    return [SegDataSample(metainfo=META) for _ in range(2)]


@torch.no_grad()
def predict_labels(model, inputs):
    """Return the label maps (2, 1, H, W) of two images."""
    return torch.stack([sample.pred_sem_seg.data for sample in model.predict(inputs, samples())])


def test_predict_logits_scores_every_segment_of_every_image(cfg, inputs):
    model = build_model(cfg)
    with torch.no_grad():
        class_logits, mask_logits, clip_logits = model.predict_logits(inputs, [META] * 2)
    images = model.denormalize(inputs)
    for image, masks, logits in zip(images, mask_logits, clip_logits, strict=True):
        expected = model.scorer.classify(model.scorer.encode(image, masks, VALID_SIZE), model.vocabulary)
        assert torch.equal(logits, expected)
        assert torch.equal(model.scorer(image, masks, model.vocabulary, VALID_SIZE), expected)
    assert clip_logits.shape == (2, 20, class_logits.shape[-1] - 1)
    assert not torch.allclose(clip_logits[0], clip_logits[1])


def test_encode_segments_then_classify_equals_predict_logits(cfg, inputs):
    model = build_model(cfg)
    head = model.decode_head
    with torch.no_grad():
        expected = model.predict_logits(inputs, [META] * 2)
        segment_embeddings, mask_logits, clip_embeddings = model.encode_segments(inputs, [META] * 2)
        text = head.classifier.text_embeddings(training=False)
        class_logits = head.classifier(segment_embeddings, text)
    clip_logits = torch.stack([model.scorer.classify(embeddings, model.vocabulary) for embeddings in clip_embeddings])
    torch.testing.assert_close((class_logits, mask_logits, clip_logits), expected)


def test_predict_uses_the_scorer(cfg, inputs):
    labels = predict_labels(build_model(cfg), inputs)
    assert labels.shape == (2, 1, 100, 130) and len(labels.unique()) > 2
    cfg.fusion.mode = 'seg'
    assert not torch.equal(predict_labels(build_model(cfg), inputs), labels)


@pytest.mark.parametrize('return_logits', [True, False])
def test_guaranteed_pruning_without_an_upper_bound_of_logits(cfg, inputs, return_logits):
    """Labels equal those without pruning, although no logit is too high for this scorer."""
    cfg.test_cfg = dict(mode='whole', return_logits=return_logits)
    labels = predict_labels(build_model(cfg), inputs)
    cfg.scorer.pruning = dict(type='mmzeg.GuaranteedPruning')
    model = build_model(cfg)
    assert model.scorer.max_logit(inputs.device) == math.inf
    counter = SegmentCounter(model.scorer)
    assert torch.equal(predict_labels(model, inputs), labels)
    assert 0 < counter.num_segments < 40


def test_threshold_pruning_keeps_the_logits_of_scored_segments(cfg, inputs):
    with torch.no_grad():
        _, _, all_logits = build_model(cfg).predict_logits(inputs, [META] * 2)
        cfg.scorer.pruning = dict(type='mmzeg.ThresholdPruning', score_thr=1.0)
        model = build_model(cfg)
        counter = SegmentCounter(model.scorer)
        _, _, pruned_logits = model.predict_logits(inputs, [META] * 2)
    is_scored = pruned_logits[..., 0] > -torch.inf
    assert 0 < counter.num_segments == is_scored.sum() < 40
    torch.testing.assert_close(pruned_logits[is_scored], all_logits[is_scored], rtol=1e-5, atol=1e-5)
    assert (pruned_logits[~is_scored] == -torch.inf).all()


def test_near_duplicate_masks_get_the_same_logits(cfg, inputs, monkeypatch):
    masks = torch.full((20, 24, 32), -9.0)
    for query, mask in enumerate(masks):
        mask[query : query + 4, 4:20] = 9.0
    # The second mask nearly equals the first.
    masks[1] = masks[0]
    masks[1, 0, 4] = -9.0
    logits = {}
    for merge_iou_thr in (None, 0.9):
        cfg.scorer.merge_iou_thr = merge_iou_thr
        model = build_model(cfg)
        class_logits = torch.zeros(1, 2, 20, len(model.vocabulary) + 1)
        outputs = class_logits, masks.expand(1, 2, -1, -1, -1)
        monkeypatch.setattr(model.decode_head, 'forward', lambda *_, outputs=outputs, **__: outputs)
        with torch.no_grad():
            _, _, logits[merge_iou_thr] = model.predict_logits(inputs, [META] * 2)
    assert not torch.equal(logits[None][0, 0], logits[None][0, 1])
    assert torch.equal(logits[0.9][0, 0], logits[0.9][0, 1])
    torch.testing.assert_close(logits[0.9][:, 2:], logits[None][:, 2:])


def test_prepare_needs_nothing(cfg):
    scorer = MeanColourScorer()
    assert scorer.prepare(MODELS.build(cfg).vocabulary, 'cpu') is None
    assert scorer.pruning is None and scorer.merge_iou_thr is None


def test_a_scorer_without_classify_is_refused():
    class IncompleteScorer(BaseScorer):
        encode = MeanColourScorer.encode

    with pytest.raises(TypeError, match='classify'):
        IncompleteScorer()


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_images_of_scorers_are_rgb(cfg, inputs, bgr_to_rgb):
    """Where the network takes BGR images, its inputs are turned for CLIP, on both stacks."""
    cfg.data_preprocessor = dict(
        type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=bgr_to_rgb, size_divisor=32
    )
    model = build_model(cfg)
    preprocessor = model.data_preprocessor
    images = inputs * preprocessor.std + preprocessor.mean
    expected = images if bgr_to_rgb else images.flip(1)
    assert torch.equal(model.denormalize(inputs), expected)
