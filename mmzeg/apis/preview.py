"""Label maps while a slider moves: masks are kept at the size of a screen; only fusion and argmax are done again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmzeg.apis.opinions import Opinions
from mmzeg.models.fusion import OpinionFusion
from mmzeg.models.label_tiles import mask_rows

# Pixels of a block, for which it is found out which classes can win at all, and pixels that are named at once.
BLOCK, CHUNK = 256, 16384


class Preview:
    """Label maps of one picture for many settings, each as the argmax of the whole map at this size.

    Args:
        opinions (Opinions): Of the picture.
        size (Sequence[int]): Height and width to draw at. Masks take 4 x Q bytes a pixel.
    """

    def __init__(self, opinions: Opinions, size: Sequence[int]) -> None:
        self.opinions, self.size = opinions, tuple(size)
        geometry = replace(opinions.geometry, original=self.size)
        rows = mask_rows(opinions.mask_logits, geometry, len(opinions.vocabulary))
        self.masks = torch.cat([part.flatten(1) for part in rows], 1)
        blocks = self.masks.split(BLOCK, 1)
        self._most = torch.stack([block.amax(1) for block in blocks], 1)
        self._least = torch.stack([block.amin(1) for block in blocks], 1)
        self._kept: dict[tuple[str, float], list[tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def label_map(self, mode: str, lam: float, gamma: float) -> np.ndarray:
        """(h, w) int64 class indices; of another gamma alone at once, as what was found of mode and lambda is kept."""
        fusion = OpinionFusion(mode, lam, gamma)
        key = (mode, lam if mode in ('full', 'unseen') else 0.0)
        if key not in self._kept:
            for stale in [kept for kept in self._kept if kept[0] == mode]:
                del self._kept[stale]
            scores, seen = self.opinions.scores(fusion), self.opinions.seen
            self._kept[key] = [self._best(scores, which) for which in (seen, ~seen)]
        (seen_score, seen_label), (unseen_score, unseen_label) = self._kept[key]
        return torch.where(unseen_score > seen_score - gamma, unseen_label, seen_label).view(self.size).cpu().numpy()

    def _best(self, scores: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Of every pixel the highest score among some classes, and its class."""
        classes = torch.nonzero(which)[:, 0]
        if not len(classes):
            pixels = self.masks.shape[1]
            return scores.new_full((pixels,), -torch.inf), classes.new_zeros(pixels)
        some = scores[:, classes]
        # A class whose most in a block is below another's least wins nowhere in it. A little more for rounding.
        least = (some.t() @ self._least).amax(0)
        able = (some.t() @ self._most >= least - 1e-5).any(1)
        some, classes = some[:, able], classes[able]
        found = [(part.t() @ some).max(1) for part in self.masks.split(CHUNK, 1)]
        values, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
        return values, classes[indices]
