"""Pruning: what is left out cannot change a label, or is what the threshold says."""

import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmzeg.evaluation import Setting, Sweep
from mmzeg.models import GuaranteedPruning, ScoreFusion, ThresholdPruning
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import label_map
from mmzeg.models.scorers.pruning import Picture

SEEN = torch.tensor([True] * 6 + [False] * 3)
MAX_LOGIT = 10.0


def picture(seed=0, sharpness=25.0):
    """Thirty queries of which most are no object; a mask is a rectangle, so that many lie over one another."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(30, 10, generator=generator) * 3
    class_logits[torch.rand(30, generator=generator) < 0.7, -1] += sharpness
    masks = torch.full((30, 20, 28), -6.0)
    for mask in masks:
        y, x = (int(torch.randint(0, side - 6, (), generator=generator)) for side in (20, 28))
        mask[y : y + 12, x : x + 14] = 6.0
    return Picture(class_logits, masks, ImageSizes((80, 112), (75, 110), (90, 132)))


class Clip:
    """Says what it was made to say, and counts how often it was asked."""

    def __init__(self, count, seed=0):
        logits = torch.randn(count, 30, 9, generator=torch.Generator().manual_seed(seed)) * 4
        self.logits, self.asked = logits.clamp(-MAX_LOGIT, MAX_LOGIT), 0

    def __call__(self, queries):
        self.asked += sum(map(len, queries))
        return [logits[which] for logits, which in zip(self.logits, queries, strict=True)]


def labels(found, fusion, clip_logits):
    scores = fusion(found.class_logits, clip_logits, SEEN)
    return label_map(scores, found.mask_logits, found.geometry, fusion.gamma * SEEN.float())


@pytest.mark.parametrize('mode', ['full', 'img', 'unseen'])
@pytest.mark.parametrize('lam', [0.3, 0.5, 0.9, 1.0])
def test_guaranteed_labels_are_those_of_asking_about_all(mode, lam):
    fusion = ScoreFusion(mode, lam, gamma=0.05)
    pictures, clip = [picture(seed) for seed in range(6)], Clip(6)
    GuaranteedPruning()(clip, pictures, fusion, SEEN, MAX_LOGIT)
    for found, logits in zip(pictures, clip.logits, strict=True):
        assert torch.equal(labels(found, fusion, found.clip_logits), labels(found, fusion, logits))
    # Nothing can be left out where the head has no say.
    assert clip.asked < 6 * 30 * 0.7 or lam == 1.0


def test_a_bound_is_a_bound_and_is_reached():
    class_logits = picture().class_logits
    for mode in ('img', 'unseen', 'full'):
        fusion = ScoreFusion(mode, 0.6)
        bound = fusion.bound(class_logits, MAX_LOGIT, SEEN)
        for seed in range(20):
            assert (fusion(class_logits, Clip(1, seed).logits[0], SEEN) <= bound + 1e-6).all()
        surest = torch.full((30, 9), -60.0)
        surest[:, 8] = MAX_LOGIT
        torch.testing.assert_close(fusion(class_logits, surest, SEEN)[:, 8], bound[:, 8])


def test_without_the_bound_labels_would_differ():
    """The test above can fail: leaving out all but the loudest changes labels."""
    fusion, found, clip = ScoreFusion('full', 0.9, 0.05), picture(), Clip(1)
    ThresholdPruning(1.0)(clip, [found], fusion, SEEN, MAX_LOGIT)
    assert not torch.equal(labels(found, fusion, found.clip_logits), labels(found, fusion, clip.logits[0]))


def test_threshold_asks_less_the_higher_it_is():
    fusion, asked = ScoreFusion('full', 0.9), []
    for threshold in (0.0, 0.5, 0.9, 1.0):
        clip = Clip(1)
        found = picture()
        ThresholdPruning(threshold)(clip, [found], fusion, SEEN, MAX_LOGIT)
        asked.append(clip.asked)
        assert torch.equal(found.clip_logits[found.asked], clip.logits[0][found.asked])
        assert (found.clip_logits[~found.asked] == -torch.inf).all()
    assert asked[0] == 30 and asked == sorted(asked, reverse=True) and asked[-1] < asked[1] < 30


def test_a_segment_must_be_heard_in_enough_of_its_mask():
    """Of two things the less likely one is loud in the quarter of its mask where the other is not."""
    class_logits, masks = torch.zeros(2, 10), torch.full((2, 8, 8), -9.0)
    class_logits[:, -1] = torch.tensor([-5.0, 3.0])
    masks[0, :, :6] = masks[1] = 9.0
    for heard, asked in ((0.0, 2), (0.24, 2), (0.26, 1)):
        found, clip = Picture(class_logits, masks, ImageSizes((32, 32), (32, 32), (32, 32))), Clip(1)
        pruning = ThresholdPruning(1.0, heard=heard)
        pruning(clip, [found], ScoreFusion(), SEEN, MAX_LOGIT)
        assert clip.asked == asked and found.asked[0]
    # Where both lie, the masks alone are equally loud.
    found, clip = Picture(class_logits, masks, ImageSizes((32, 32), (32, 32), (32, 32))), Clip(1)
    ThresholdPruning(1.0, heard=1.0, objectness=False)(clip, [found], ScoreFusion(), SEEN, MAX_LOGIT)
    assert clip.asked == 2


@pytest.mark.parametrize('fields', [dict(threshold=1.5), dict(threshold=-1), dict(heard=-0.1), dict(heard=2)])
def test_bad_fields(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        ThresholdPruning(**fields)


@pytest.fixture
def hesitant(world):
    world.fusion.lam = 0.5
    return world


def predict(cfg):
    """Label maps of two pictures of noise, and how many segments CLIP was asked about."""
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    inputs = torch.randn(2, 3, 96, 128)
    # Sure that half of the queries are no object.
    head = model.decode_head.forward

    def forward(*args, **fields):
        class_logits, mask_logits = head(*args, **fields)
        class_logits[..., ::2, -1] += 40
        return class_logits, mask_logits + 3 * torch.randn(mask_logits.shape)

    model.decode_head.forward = forward
    asked, ask = [], model._ask
    model._ask = lambda images, masks, valid: asked.extend(map(len, masks)) or ask(images, masks, valid)
    meta = dict(ori_shape=(100, 130), img_shape=(96, 128), pad_shape=(96, 128))
    samples = [SegDataSample(metainfo=meta) for _ in range(2)]
    with torch.no_grad():
        found = model.predict(inputs, samples)
    return torch.stack([sample.pred_sem_seg.data for sample in found]), sum(asked)


@pytest.mark.parametrize('labels_only', [False, True])
def test_a_pruned_model_gives_the_same_label_maps(hesitant, labels_only):
    hesitant.test_cfg = dict(mode='whole', labels_only=labels_only)
    exact, all_of_them = predict(hesitant)
    hesitant.scorer.pruning = dict(type='mmzeg.GuaranteedPruning')
    pruned, asked = predict(hesitant)
    assert torch.equal(exact, pruned) and all_of_them == 40 and asked <= 24
    hesitant.scorer.pruning = dict(type='mmzeg.ThresholdPruning', threshold=1.0)
    assert predict(hesitant)[1] <= asked


@pytest.mark.parametrize('pruning', [None, 'Guaranteed', 'Threshold'])
def test_autocast_is_for_the_network_alone(hesitant, pruning):
    hesitant.scorer.pruning = pruning and dict(type=f'mmzeg.{pruning}Pruning')
    model = MODELS.build(hesitant).eval()
    given = 3 * torch.randn(2, 1, 20, 43), 4 * torch.randn(2, 1, 20, 24, 32)
    model.decode_head.forward = lambda *_, **__: given
    inputs = torch.randn(1, 3, 96, 128)
    found = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            found.append(model.encode_decode(inputs, [dict(ori_shape=(96, 128))]))
    assert torch.equal(*found)


def test_windows_have_no_padding_of_the_whole_picture(hesitant):
    hesitant.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    model = MODELS.build(hesitant).eval()
    asked, ask = [], model._ask
    model._ask = lambda images, masks, valid: asked.extend(valid) or ask(images, masks, valid)
    meta = dict(ori_shape=(90, 120), img_shape=(90, 120), padding_size=(0, 8, 0, 6))
    with torch.no_grad():
        model.predict(torch.randn(1, 3, 96, 128), [SegDataSample(metainfo=meta)])
    assert set(asked) == {(64, 64)}


def test_a_guarantee_that_cannot_hold_is_refused(hesitant):
    hesitant.scorer.pruning = dict(type='mmzeg.GuaranteedPruning')
    with pytest.raises(ValueError, match='model.scorer.pruning=None'):
        Sweep(MODELS.build(hesitant), [Setting('full', 0.5, 0.0)])
    hesitant.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(ValueError, match="test_cfg.mode='whole'"):
        MODELS.build(hesitant)
