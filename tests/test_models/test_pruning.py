"""Pruning: segments that are not scored cannot change a label, or are those that the thresholds name."""

import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmzeg.evaluation import Setting, Sweep
from mmzeg.models import GuaranteedPruning, ScoreFusion, ThresholdPruning
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import label_map
from mmzeg.models.scorers.pruning import PruningState

SEEN = torch.tensor([True] * 6 + [False] * 3)
MAX_LOGIT = 10.0


def random_state(seed=0, no_object_offset=25.0):
    """Return the state of an image with 30 overlapping rectangles as masks, of which most are "no object"."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(30, 10, generator=generator) * 3
    class_logits[torch.rand(30, generator=generator) < 0.7, -1] += no_object_offset
    masks = torch.full((30, 20, 28), -6.0)
    for mask in masks:
        y, x = (int(torch.randint(0, side - 6, (), generator=generator)) for side in (20, 28))
        mask[y : y + 12, x : x + 14] = 6.0
    return PruningState(class_logits, masks, ImageSizes((80, 112), (75, 110), (90, 132)))


class RandomScoreFn:
    """Return fixed random CLIP logits, and count the segments that were scored."""

    def __init__(self, num_images, seed=0):
        logits = torch.randn(num_images, 30, 9, generator=torch.Generator().manual_seed(seed)) * 4
        self.logits = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
        self.num_scored = 0

    def __call__(self, queries):
        self.num_scored += sum(map(len, queries))
        return [logits[indices] for logits, indices in zip(self.logits, queries, strict=True)]


def predict_labels(state, fusion, clip_logits):
    """Return the label map of an image (H, W) with these CLIP logits."""
    scores = fusion(state.class_logits, clip_logits, SEEN)
    return label_map(scores, state.mask_logits, state.sizes, fusion.class_offset(SEEN))


@pytest.mark.parametrize('mode', ['full', 'img', 'unseen'])
@pytest.mark.parametrize('lam', [0.3, 0.5, 0.9, 1.0])
def test_guaranteed_labels_equal_those_of_scoring_all(mode, lam):
    fusion = ScoreFusion(mode, lam, gamma=0.05)
    states = [random_state(seed) for seed in range(6)]
    score_fn = RandomScoreFn(6)
    GuaranteedPruning()(score_fn, states, fusion, SEEN, MAX_LOGIT)
    for state, logits in zip(states, score_fn.logits, strict=True):
        pruned_labels = predict_labels(state, fusion, state.clip_logits)
        assert torch.equal(pruned_labels, predict_labels(state, fusion, logits))
    # With lambda 1 the head does not count, and nothing can be pruned.
    assert score_fn.num_scored < 6 * 30 * 0.7 or lam == 1.0


@pytest.mark.parametrize('alpha, beta', [(0.4, 0.8), (0.0, 0.5), (1.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize('ensemble_on_valid_mask', [False, True])
def test_guaranteed_labels_of_the_geometric_ensemble(alpha, beta, ensemble_on_valid_mask):
    fusion = ScoreFusion('geometric', gamma=0.05, alpha=alpha, beta=beta, ensemble_on_valid_mask=ensemble_on_valid_mask)
    states = [random_state(seed) for seed in range(6)]
    score_fn = RandomScoreFn(6)
    # Some masks cover no cell of CLIP's map.
    score_fn.logits[:, ::4] = 0.0
    GuaranteedPruning()(score_fn, states, fusion, SEEN, MAX_LOGIT)
    for state, logits in zip(states, score_fn.logits, strict=True):
        pruned_labels = predict_labels(state, fusion, state.clip_logits)
        assert torch.equal(pruned_labels, predict_labels(state, fusion, logits))
    assert score_fn.num_scored < 6 * 30


@pytest.mark.parametrize('alpha, beta', [(0.4, 0.8), (0.0, 0.5), (0.7, 0.0), (1.0, 1.0)])
def test_the_upper_bound_of_the_geometric_ensemble_holds_and_is_reached(alpha, beta):
    class_logits = random_state().class_logits
    for ensemble_on_valid_mask in (False, True):
        fusion = ScoreFusion('geometric', alpha=alpha, beta=beta, ensemble_on_valid_mask=ensemble_on_valid_mask)
        upper_bound = fusion.upper_bound(class_logits, MAX_LOGIT, SEEN)
        for seed in range(20):
            clip_logits = RandomScoreFn(1, seed).logits[0]
            clip_logits[::3] = 1.0
            assert (fusion(class_logits, clip_logits, SEEN) <= upper_bound + 1e-6).all()
        for label in (0, 8):
            confident_logits = torch.full((30, 9), -2000.0)
            confident_logits[:, label] = MAX_LOGIT
            scores = fusion(class_logits, confident_logits, SEEN)
            torch.testing.assert_close(scores[:, label], upper_bound[:, label])


def test_the_upper_bound_holds_and_is_reached():
    class_logits = random_state().class_logits
    for mode in ('img', 'unseen', 'full'):
        fusion = ScoreFusion(mode, 0.6)
        upper_bound = fusion.upper_bound(class_logits, MAX_LOGIT, SEEN)
        for seed in range(20):
            assert (fusion(class_logits, RandomScoreFn(1, seed).logits[0], SEEN) <= upper_bound + 1e-6).all()
        confident_logits = torch.full((30, 9), -60.0)
        confident_logits[:, 8] = MAX_LOGIT
        torch.testing.assert_close(fusion(class_logits, confident_logits, SEEN)[:, 8], upper_bound[:, 8])


def test_labels_differ_without_the_upper_bound():
    """The guarantee can fail: to score only the dominant segments changes labels."""
    fusion = ScoreFusion('full', 0.9, 0.05)
    state = random_state()
    score_fn = RandomScoreFn(1)
    ThresholdPruning(1.0)(score_fn, [state], fusion, SEEN, MAX_LOGIT)
    pruned_labels = predict_labels(state, fusion, state.clip_logits)
    assert not torch.equal(pruned_labels, predict_labels(state, fusion, score_fn.logits[0]))


def test_a_higher_threshold_scores_fewer_segments():
    fusion = ScoreFusion('full', 0.9)
    num_scored = []
    for score_thr in (0.0, 0.5, 0.9, 1.0):
        score_fn = RandomScoreFn(1)
        state = random_state()
        ThresholdPruning(score_thr)(score_fn, [state], fusion, SEEN, MAX_LOGIT)
        num_scored.append(score_fn.num_scored)
        assert torch.equal(state.clip_logits[state.is_scored], score_fn.logits[0][state.is_scored])
        assert (state.clip_logits[~state.is_scored] == -torch.inf).all()
    assert num_scored[0] == 30 and num_scored == sorted(num_scored, reverse=True)
    assert num_scored[-1] < num_scored[1] < 30


def test_min_coverage_counts_the_dominated_pixels_of_a_mask():
    """The less likely of two segments is dominant in the quarter of its mask where the other mask is not."""
    class_logits = torch.zeros(2, 10)
    class_logits[:, -1] = torch.tensor([-5.0, 3.0])
    masks = torch.full((2, 8, 8), -9.0)
    masks[0, :, :6] = 9.0
    masks[1] = 9.0
    sizes = ImageSizes((32, 32), (32, 32), (32, 32))
    for min_coverage, num_scored in ((0.0, 2), (0.24, 2), (0.26, 1)):
        state = PruningState(class_logits, masks, sizes)
        score_fn = RandomScoreFn(1)
        pruning = ThresholdPruning(1.0, min_coverage=min_coverage)
        pruning(score_fn, [state], ScoreFusion(), SEEN, MAX_LOGIT)
        assert score_fn.num_scored == num_scored and state.is_scored[0]
    # Where the masks overlap, their probabilities alone are equal.
    state = PruningState(class_logits, masks, sizes)
    score_fn = RandomScoreFn(1)
    pruning = ThresholdPruning(1.0, min_coverage=1.0, use_objectness=False)
    pruning(score_fn, [state], ScoreFusion(), SEEN, MAX_LOGIT)
    assert score_fn.num_scored == 2


@pytest.mark.parametrize(
    'fields', [dict(score_thr=1.5), dict(score_thr=-1), dict(min_coverage=-0.1), dict(min_coverage=2)]
)
def test_bad_fields(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        ThresholdPruning(**fields)


@pytest.fixture
def cfg(world):
    """Return a model config in which the head and CLIP weigh the same."""
    world.fusion.lam = 0.5
    return world


def predict(cfg):
    """Return the label maps of two images of noise, and how many segments were scored."""
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    inputs = torch.randn(2, 3, 96, 128)
    forward = model.decode_head.forward
    score_segments = model.scorer.score_segments
    num_scored = []

    def forward_with_no_object(*args, **fields):
        """Make half of the queries "no object" with certainty."""
        class_logits, mask_logits = forward(*args, **fields)
        class_logits[..., ::2, -1] += 40
        return class_logits, mask_logits + 3 * torch.randn(mask_logits.shape)

    def count_segments(images, mask_logits, vocabulary, valid_sizes):
        num_scored.extend(map(len, mask_logits))
        return score_segments(images, mask_logits, vocabulary, valid_sizes)

    model.decode_head.forward = forward_with_no_object
    model.scorer.score_segments = count_segments
    meta = dict(ori_shape=(100, 130), img_shape=(96, 128), pad_shape=(96, 128))
    samples = [SegDataSample(metainfo=meta) for _ in range(2)]
    with torch.no_grad():
        samples = model.predict(inputs, samples)
    return torch.stack([sample.pred_sem_seg.data for sample in samples]), sum(num_scored)


@pytest.mark.parametrize('return_logits', [True, False])
def test_a_pruned_model_gives_the_same_label_maps(cfg, return_logits):
    cfg.test_cfg = dict(mode='whole', return_logits=return_logits)
    labels, num_segments = predict(cfg)
    cfg.scorer.pruning = dict(type='mmzeg.GuaranteedPruning')
    pruned_labels, num_scored = predict(cfg)
    assert torch.equal(labels, pruned_labels) and num_segments == 40 and num_scored <= 24
    cfg.scorer.pruning = dict(type='mmzeg.ThresholdPruning', score_thr=1.0)
    assert predict(cfg)[1] <= num_scored


def test_guaranteed_pruning_is_refused_where_it_cannot_hold(cfg):
    cfg.scorer.pruning = dict(type='mmzeg.GuaranteedPruning')
    with pytest.raises(ValueError, match='model.scorer.pruning=None'):
        Sweep(MODELS.build(cfg), [Setting('full', 0.5, 0.0)])
    cfg.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(ValueError, match="test_cfg.mode='whole'"):
        MODELS.build(cfg)
