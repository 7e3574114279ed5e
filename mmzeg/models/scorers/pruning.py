"""Which segments CLIP need not be asked about."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import mask_rows
from mmzeg.registry import MODELS

# Sums of float32 in another order differ by less.
MARGIN = 1e-5
# Asked about at once, between two looks at what is decided.
STEP = 8


@dataclass
class Picture:
    """The segments of a picture, and what CLIP has said of them so far.

    Args:
        class_logits (Tensor): (Q, C + 1).
        mask_logits (Tensor): (Q, h, w).
        geometry (ImageSizes): Of the picture.
    """

    class_logits: Tensor
    mask_logits: Tensor
    geometry: ImageSizes
    clip_logits: Tensor = field(init=False)
    asked: Tensor = field(init=False)

    def __post_init__(self) -> None:
        # Of whom CLIP is not asked, the opinion is that it shows nothing: a score of 0.
        self.clip_logits = torch.full_like(self.class_logits[:, :-1], -torch.inf)
        self.asked = torch.zeros_like(self.class_logits[:, 0], dtype=torch.bool)

    def hear(self, queries: Tensor, logits: Tensor) -> None:
        """Take CLIP's logits (n, C) of some queries."""
        self.clip_logits[queries], self.asked[queries] = logits, True


# Queries of every picture, and CLIP's logits of them.
Ask = Callable[[list[Tensor]], list[Tensor]]


@MODELS.register_module()
class GuaranteedPruning:
    """Asks until no answer could change the label of any pixel: labels are those of asking about every segment.

    A segment's score is bounded by its own opinion (``ScoreFusion.bound``); a pixel is decided where its best class
    stays ahead of every other one even if all that were not asked about scored their bounds. Scores of the semantic map
    are lower than those of asking about all. Holds for pictures that are tested as a whole.
    """

    def __call__(
        self, ask: Ask, pictures: list[Picture], fusion: ScoreFusion, seen: Tensor, max_logit: float
    ) -> None:
        """Ask about what matters; the pictures hear the answers."""
        bounds = [fusion.bound(picture.class_logits, max_logit, seen) for picture in pictures]
        wanted = [_loudest(b.amax(1), picture.mask_logits, 1.0) for picture, b in zip(pictures, bounds, strict=True)]
        while any(len(queries) for queries in wanted):
            for picture, queries, logits in zip(pictures, wanted, ask(wanted), strict=True):
                picture.hear(queries, logits)
            wanted = [self._open(picture, b, fusion, seen) for picture, b in zip(pictures, bounds, strict=True)]

    @staticmethod
    def _open(picture: Picture, bound: Tensor, fusion: ScoreFusion, seen: Tensor) -> Tensor:
        """The queries that could do most at the pixels that are not decided; none if all are."""
        low = fusion(picture.class_logits, picture.clip_logits, seen)
        high = torch.where(picture.asked[:, None], low, bound)
        taken = fusion.gamma * seen.to(low.dtype)
        influence = torch.zeros_like(low[:, 0])
        for masks in mask_rows(picture.mask_logits, picture.geometry, low.shape[1]):
            masks = masks.flatten(1)
            best, winner = torch.addmm(-taken, masks.t(), low).max(1)
            others = torch.addmm(-taken, masks.t(), high).scatter_(1, winner[:, None], -torch.inf).amax(1)
            influence += masks[:, others + MARGIN >= best].sum(1)
        influence = influence * high.amax(1) * ~picture.asked
        return influence.argsort(descending=True)[: min(STEP, int((influence > 0).sum()))]


@MODELS.register_module()
class ThresholdPruning:
    """Asks about segments that may be heard.

    A segment's voice at a pixel is its mask there, times the probability that it is an object.

    Args:
        threshold (float): Asked about are segments whose voice is at some pixel at least this share of the loudest
            one. 0 asks about all, 1 about those that are loudest somewhere.
        heard (float): Share of its mask's pixels where a segment must be so loud, in [0, 1]. 0, the default: one pixel
            will do.
        objectness (bool): Defaults to True. False: the voice is the mask alone. Of unseen things a head is less sure
            that they are objects, and louder seen ones would silence them.
    """

    def __init__(self, threshold: float = 0.9, heard: float = 0.0, objectness: bool = True) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f'pruning threshold must lie in [0, 1], got {threshold}')
        if not 0 <= heard <= 1:
            raise ValueError(f'pruning heard must lie in [0, 1], got {heard}')
        self.threshold, self.heard, self.objectness = threshold, heard, objectness

    def __call__(
        self, ask: Ask, pictures: list[Picture], fusion: ScoreFusion, seen: Tensor, max_logit: float
    ) -> None:
        """Ask about what may be heard; the pictures hear the answers."""
        wanted = [self._heard(picture) for picture in pictures]
        for picture, queries, logits in zip(pictures, wanted, ask(wanted), strict=True):
            picture.hear(queries, logits)

    def _heard(self, picture: Picture) -> Tensor:
        is_object = 1 - picture.class_logits.softmax(-1)[:, -1]
        voices = is_object if self.objectness else torch.ones_like(is_object)
        return _loudest(voices, picture.mask_logits, self.threshold, self.heard)


def _loudest(voices: Tensor, mask_logits: Tensor, share: float, least: float = 0.0) -> Tensor:
    """Queries that have at some pixel at least this share of the loudest voice there, and at no less than a ``least``
    share of their mask's pixels; ascending."""
    heard = voices[:, None, None] * mask_logits.sigmoid()
    loud = (heard >= share * heard.amax(0)).flatten(1)
    inside = mask_logits.flatten(1) > 0
    enough = (loud & inside).sum(1) >= least * inside.sum(1)
    return (loud.any(1) & enough).nonzero()[:, 0]
