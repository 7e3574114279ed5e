"""Which segments are not scored: pruning saves passes of CLIP (docs/en/method.md#pruning-and-merging)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device
from mmzeg.models.execution import Execution
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.mask_rows import mask_rows
from mmzeg.models.scorers.unique_masks import SEGMENTS_PER_ROUND, select_queries
from mmzeg.registry import MODELS

# Upper bound of the float32 rounding error when the scores of a pixel are summed in another order.
ROUNDING_MARGIN = 1e-5


@dataclass
class PruningState:
    """The segments of one image, and the CLIP logits of those that were scored.

    Args:
        class_logits (Tensor): (Q, C + 1) of the classifier, "no object" last.
        mask_logits (Tensor): (Q, h, w).
        sizes (ImageSizes): Sizes of the image.
        execution (Execution): Bounds the tiles in which pixels are compared.

    Attributes:
        clip_logits (Tensor): (Q, C); minus infinity, which is a probability of 0, for a segment that is not scored.
        is_scored (Tensor): (Q,) bool.
    """

    class_logits: Tensor
    mask_logits: Tensor
    sizes: ImageSizes
    execution: Execution = Execution()
    clip_logits: Tensor = field(init=False)
    is_scored: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.clip_logits = torch.full_like(self.class_logits[:, :-1], -torch.inf)
        self.is_scored = torch.zeros_like(self.class_logits[:, 0], dtype=torch.bool)

    def update(self, queries: Tensor, clip_logits: Tensor) -> None:
        """Store the CLIP logits (n, C) of n queries."""
        self.clip_logits[queries] = clip_logits
        self.is_scored[queries] = True


# Takes the query indices (n,) of every image; returns their CLIP logits (n, C).
ScoreFn = Callable[[list[Tensor]], list[Tensor]]


@MODELS.register_module()
class GuaranteedPruning:
    """Score segments until no remaining segment can change the label of any pixel.

    The labels equal those of scoring all segments. The scores of a segment that is not scored are bounded from its own
    class logits (``ScoreFusion.upper_bound``). A pixel is decided where its best class stays ahead of every other class
    even if all remaining segments reached their bounds. Values of the semantic map are lower than without pruning.
    This holds for images that are tested as a whole, not in windows. Before each round the host waits for the device
    once, to know how many segments of every image are scored next.
    """

    def __call__(
        self, score_fn: ScoreFn, states: list[PruningState], fusion: ScoreFusion, seen: Tensor, max_logit: float
    ) -> None:
        """Score the segments that matter and store their CLIP logits in ``states``.

        Args:
            score_fn (ScoreFn): Scores chosen queries of every image.
            states (list[PruningState]): One for every image.
            fusion (ScoreFusion): The fusion that makes the labels.
            seen (Tensor): (C,) bool, in host memory.
            max_logit (float): Upper bound of all CLIP logits; may be infinite.
        """
        offset = copy_to_device(fusion.class_offset(seen).numpy(), states[0].mask_logits.device)
        bounds = [fusion.upper_bound(state.class_logits, max_logit, seen) for state in states]
        # Start with the queries whose bound is the highest at some pixel.
        queries = _selected_queries(
            [_is_dominant(bound.amax(1), state.mask_logits, 1.0) for state, bound in zip(states, bounds, strict=True)]
        )
        while any(len(image_queries) for image_queries in queries):
            for state, image_queries, logits in zip(states, queries, score_fn(queries), strict=True):
                state.update(image_queries, logits)
            influences = [
                self._influence(state, bound, fusion(state.class_logits, state.clip_logits, seen), offset)
                for state, bound in zip(states, bounds, strict=True)
            ]
            queries = self._influential_queries(influences)

    @staticmethod
    def _influential_queries(influences: list[Tensor]) -> list[Tensor]:
        """Return the queries of every image with the most influence (Q,) above 0; none if all pixels are decided."""
        counts = torch.stack([(influence > 0).sum() for influence in influences]).tolist()
        return [
            influence.argsort(descending=True)[: min(SEGMENTS_PER_ROUND, count)]
            for influence, count in zip(influences, counts, strict=True)
        ]

    @staticmethod
    def _influence(state: PruningState, bound: Tensor, lower: Tensor, offset: Tensor) -> Tensor:
        """Return the influence of every query on undecided pixels, (Q,), 0 for queries that are scored.

        Args:
            state (PruningState): The image.
            bound (Tensor): (Q, C) upper bounds of the scores.
            lower (Tensor): (Q, C) scores where no more queries are scored.
            offset (Tensor): (C,) what calibration subtracts from each class.
        """
        upper = torch.where(state.is_scored[:, None], lower, bound)
        # Sum every query's mask over the undecided pixels.
        influence = torch.zeros_like(lower[:, 0])
        for masks in mask_rows(state.mask_logits, state.sizes, lower.shape[1], state.execution):
            masks = masks.flatten(1)
            best, label = torch.addmm(-offset, masks.t(), lower).max(1)
            runner_up = torch.addmm(-offset, masks.t(), upper).scatter_(1, label[:, None], -torch.inf).amax(1)
            is_undecided = runner_up + ROUNDING_MARGIN >= best
            influence += masks @ is_undecided.to(masks.dtype)
        # Weigh the remaining queries by mask and bound.
        return influence * upper.amax(1) * ~state.is_scored


@MODELS.register_module()
class ThresholdPruning:
    """Score only segments whose confidence comes near the highest confidence at some of their pixels.

    A query's confidence at a pixel is its mask probability there, times the probability that it is an object. A skipped
    segment gets the CLIP probability 0: in modes ``img`` and ``unseen`` with lambda > 0 it adds nothing to the map. The
    host waits for the device once, to know how many segments of every image are scored.

    Args:
        score_thr (float): Confidence a segment needs at some pixel, as a fraction of the highest confidence there, in
            [0, 1]. 0 scores all segments, 1 those that are the most confident somewhere. Defaults to 0.9.
        min_coverage (float): Fraction of its mask's pixels where a segment must reach ``score_thr``, in [0, 1].
            Defaults to 0: one pixel is enough.
        use_objectness (bool): Defaults to True. False: the confidence is only the mask probability. Heads
            give unseen objects lower objectness, so confident seen segments would suppress them.

    Raises:
        ValueError: A fraction outside [0, 1].
    """

    def __init__(self, score_thr: float = 0.9, min_coverage: float = 0.0, use_objectness: bool = True) -> None:
        if not 0 <= score_thr <= 1:
            raise ValueError(f'pruning score_thr must lie in [0, 1], got {score_thr}')
        if not 0 <= min_coverage <= 1:
            raise ValueError(f'pruning min_coverage must lie in [0, 1], got {min_coverage}')
        self.score_thr = score_thr
        self.min_coverage = min_coverage
        self.use_objectness = use_objectness

    def __call__(
        self, score_fn: ScoreFn, states: list[PruningState], fusion: ScoreFusion, seen: Tensor, max_logit: float
    ) -> None:
        """Score the confident segments and store their CLIP logits; arguments as of ``GuaranteedPruning``."""
        queries = _selected_queries([self._is_confident(state) for state in states])
        for state, image_queries, logits in zip(states, queries, score_fn(queries), strict=True):
            state.update(image_queries, logits)

    def _is_confident(self, state: PruningState) -> Tensor:
        objectness = 1 - state.class_logits.softmax(-1)[:, -1]
        confidence = objectness if self.use_objectness else torch.ones_like(objectness)
        return _is_dominant(confidence, state.mask_logits, self.score_thr, self.min_coverage)


def _selected_queries(are_selected: list[Tensor]) -> list[Tensor]:
    """Return the indices (n,), ascending, where (Q,) bool of every image is True."""
    counts = torch.stack([is_selected.sum() for is_selected in are_selected]).tolist()
    return [select_queries(*pair) for pair in zip(are_selected, counts, strict=True)]


def _is_dominant(confidence: Tensor, mask_logits: Tensor, score_thr: float, min_coverage: float = 0.0) -> Tensor:
    """Return which queries (Q,) come near the highest confidence on enough of their mask.

    Args:
        confidence (Tensor): (Q,) of the segments.
        mask_logits (Tensor): (Q, h, w).
        score_thr (float): Fraction of the highest confidence at a pixel that a query needs there.
        min_coverage (float): Fraction of its mask's pixels where it needs that.
    """
    pixel_confidence = confidence[:, None, None] * mask_logits.sigmoid()
    is_dominant = (pixel_confidence >= score_thr * pixel_confidence.amax(0)).flatten(1)
    masks = mask_logits.flatten(1) > 0
    covers_enough = (is_dominant & masks).sum(1) >= min_coverage * masks.sum(1)
    return is_dominant.any(1) & covers_enough
