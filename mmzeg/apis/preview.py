"""Label maps while a slider moves: masks are kept at the size of a screen; only fusion and argmax are done again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.label_map import mask_rows

# Side, in pixels, of the squares for each of which it is found out which classes can win in it at all.
SIDE = 24


class Preview:
    """Label maps of one picture for many settings, each as the argmax of the whole map at this size.

    Args:
        opinions (SegmentPredictions): Of the picture.
        size (Sequence[int]): Height and width (h, w) to draw at. Masks take 4 x Q bytes a pixel.
    """

    def __init__(self, opinions: SegmentPredictions, size: Sequence[int]) -> None:
        self.opinions, self.size = opinions, tuple(size)
        geometry = replace(opinions.geometry, original=self.size)
        masks = torch.cat(list(mask_rows(opinions.mask_logits, geometry, len(opinions.vocabulary))), 1)
        height, width = (-(-side // SIDE) for side in self.size)
        padded = F.pad(masks, (0, width * SIDE - self.size[1], 0, height * SIDE - self.size[0]))
        squares = padded.view(len(masks), height, SIDE, width, SIDE).permute(1, 3, 0, 2, 4)
        self._grid, self._squares = (height, width), squares.reshape(height * width, len(masks), SIDE * SIDE)
        self._most, self._least = self._squares.amax(2), self._squares.amin(2)
        self._kept: dict[tuple[str, float], list[tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def label_map(self, mode: str, lam: float, gamma: float) -> np.ndarray:
        """(h, w) int64 class indices; of another gamma alone at once, as what was found of mode and lambda is kept."""
        fusion = ScoreFusion(mode, lam, gamma)
        key = (mode, lam if mode in ('full', 'unseen') else 0.0)
        if key not in self._kept:
            for stale in [kept for kept in self._kept if kept[0] == mode]:
                del self._kept[stale]
            scores, seen = self.opinions.scores(fusion), self.opinions.seen
            self._kept[key] = [self._best(scores, which) for which in (seen, ~seen)]
        (seen_score, seen_label), (unseen_score, unseen_label) = self._kept[key]
        return self._joined(torch.where(unseen_score > seen_score - gamma, unseen_label, seen_label))

    def segment(self, fusion: ScoreFusion, label: int, query: int) -> np.ndarray:
        """(h, w) bool: pixels of a class to which a query gives most."""
        labels = self.label_map(fusion.mode, fusion.lam, fusion.gamma)
        voices = self.opinions.scores(fusion)[:, label, None] * self._squares
        return (labels == label) & (self._joined(voices.argmax(1)) == query)

    def _best(self, scores: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Of every pixel the highest score among some classes, and its class, by squares."""
        classes, count = torch.nonzero(which)[:, 0], len(self._squares)
        if not len(classes):
            shape = count, SIDE * SIDE
            return scores.new_full(shape, -torch.inf), classes.new_zeros(shape)
        some = scores[:, classes]
        # A class whose most in a square is below another's least wins nowhere in it. A little more for rounding.
        able = self._most @ some >= (self._least @ some).amax(1, keepdim=True) - 1e-5
        places = torch.nonzero(able)[:, 1].split(able.sum(1).tolist())
        found = [(masks.t() @ some[:, place]).max(1) for masks, place in zip(self._squares, places, strict=True)]
        values = torch.stack([best for best, _ in found])
        return values, torch.stack([classes[place][index] for place, (_, index) in zip(places, found, strict=True)])

    def _joined(self, squares: Tensor) -> np.ndarray:
        """(h, w) of squares (N, SIDE x SIDE)."""
        (rows, columns), (height, width) = self._grid, self.size
        whole = squares.view(rows, columns, SIDE, SIDE).transpose(1, 2).reshape(rows * SIDE, columns * SIDE)
        return whole[:height, :width].cpu().numpy()
