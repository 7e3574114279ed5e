"""PerPixelSegmentor and PerPixelHead; check_parity compares them with the released code."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cfg():
    """Return the per-pixel baseline's model config, narrow, with four classes of which one is unseen."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/per-pixel_r50_coco.py').model
    cfg.backbone.update(base_channels=8, stem_channels=8)
    path = str(ROOT / 'configs/_base_/datasets/camvid_embeddings.npz')
    classifier = cfg.decode_head.classifier
    classifier.text_encoder = dict(type='mmzeg.EmbeddingFile', path=path)
    classifier.vocabulary = dict(classes=['sky', 'road', 'car', 'tree'], unseen=['car'])
    return cfg


def batch(*values):
    """Return random inputs and samples; each image is labelled with one value."""
    samples = []
    for value in values:
        sample = SegDataSample(metainfo=dict(img_path=f'{value}.jpg', seg_map_path=f'{value}.png'))
        sample.gt_sem_seg = PixelData(data=torch.full((1, 64, 96), value))
        samples.append(sample)
    return torch.randn(len(values), 3, 64, 96), samples


def test_ignored_pixels_do_not_count(cfg):
    model = MODELS.build(cfg).train()
    inputs, samples = batch(2)
    full_loss = model.loss(inputs, samples)['decode.loss_cls']
    samples[0].gt_sem_seg.data[:, 32:] = 255
    text = model.decode_head.classifier.text_embeddings(training=True)
    logits = model.decode_head(model.extract_feat(inputs), text)
    logits = torch.nn.functional.interpolate(logits, scale_factor=4, mode='bilinear', align_corners=False)
    loss = model.loss(inputs, samples)['decode.loss_cls']
    torch.testing.assert_close(loss, -logits.log_softmax(1)[0, 2, :32].mean())
    assert loss != full_loss


def test_an_image_without_labels_trains(cfg):
    model = MODELS.build(cfg).train()
    losses = model.loss(*batch(255))
    assert losses['decode.loss_cls'] == 0
    losses['decode.loss_cls'].backward()


def test_an_unseen_label_is_refused(cfg):
    model = MODELS.build(cfg).train()
    with pytest.raises(ValueError, match='3.png: label value 3 reached the loss'):
        model.loss(*batch(1, 3))


def test_gamma_lowers_the_probabilities_of_seen_classes(cfg):
    model = MODELS.build(cfg).eval()
    inputs = torch.randn(1, 3, 64, 96)
    calibrated = model.predict(inputs)[0].seg_logits.data
    model.gamma = 0.0
    probabilities = model.predict(inputs)[0].seg_logits.data
    torch.testing.assert_close(probabilities.sum(0), torch.ones(64, 96))
    difference = (probabilities - calibrated).mean((1, 2))
    torch.testing.assert_close(difference, torch.tensor([0.1, 0.1, 0.0, 0.1]))


def test_negative_gamma_is_refused(cfg):
    with pytest.raises(ValueError, match='gamma must be 0 or more'):
        MODELS.build(dict(cfg, gamma=-0.1))
