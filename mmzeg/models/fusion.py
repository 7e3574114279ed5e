"""Score fusion: the ensemble of the head's and CLIP's class probabilities (docs/en/method.md#score-fusion)."""

import math
from numbers import Real

import torch
from torch import Tensor

from mmzeg.models.calibration import class_offset
from mmzeg.registry import MODELS

MODES = ('seg', 'img', 'full', 'unseen')


@MODELS.register_module()
class ScoreFusion:
    """Combine the head's class probabilities p with CLIP's p' into one score per segment and class.

    Args:
        mode (str): ``seg``: only p. ``img``: only p'. ``full``: unseen classes get p^(1 - lam) * p'^lam, seen ones
            p^lam * (mean of p' over the seen classes)^(1 - lam). ``unseen``: every class as if unseen.
        lam (float): Ensemble weight lambda in [0, 1]. Defaults to 2 / 3.
        gamma (float): Calibration, subtracted from every seen class of the semantic map, >= 0. Defaults to 0.1.

    Raises:
        ValueError: An unknown mode; lam or gamma out of range, not finite, or not a number.
    """

    def __init__(self, mode: str = 'full', lam: float = 2 / 3, gamma: float = 0.1) -> None:
        if mode not in MODES:
            raise ValueError(f'fusion mode {mode!r} is unknown: use one of {", ".join(MODES)}')
        if not isinstance(lam, Real) or not 0 <= lam <= 1:
            raise ValueError(f'fusion lam must lie in [0, 1], got {lam}')
        # Infinity times 0, the offset of an unseen class, is NaN. NaN itself fails both comparisons.
        if not isinstance(gamma, Real) or not 0 <= gamma <= torch.finfo(torch.float32).max:
            raise ValueError(f'fusion gamma must be 0 or more, and finite, got {gamma}')
        self.mode = mode
        self.lam = lam
        self.gamma = gamma

    @property
    def needs_scorer(self) -> bool:
        """Whether this mode uses CLIP logits."""
        return self.mode != 'seg'

    def __call__(self, class_logits: Tensor, clip_logits: Tensor | None, seen: Tensor) -> Tensor:
        """Score every segment.

        Args:
            class_logits (Tensor): (..., Q, C + 1) of the classifier, "no object" last.
            clip_logits (Tensor, optional): (..., Q, C) of the scorer; unused in mode ``seg``.
            seen (Tensor): (C,) bool.

        Returns:
            Tensor: (..., Q, C) scores in [0, 1], not calibrated.
        """
        seg_probs = class_logits.softmax(-1)[..., :-1]
        if self.mode == 'seg':
            return seg_probs
        # The released code lets the query's "no object" logit compete with CLIP's logits, then drops that column.
        clip_probs = torch.cat([clip_logits, class_logits[..., -1:]], -1).softmax(-1)[..., :-1]
        if self.mode == 'img':
            return clip_probs
        if self.mode == 'unseen' or not seen.any():
            return self._ensemble(seg_probs, clip_probs)
        seen_mean = clip_probs[..., seen].mean(-1, keepdim=True)
        return self._join(seg_probs, clip_probs, seen_mean, seen)

    def upper_bound(self, class_logits: Tensor, max_logit: float, seen: Tensor) -> Tensor:
        """Return (..., Q, C) bounds that no score exceeds, if no CLIP logit exceeds ``max_logit``.

        Args:
            class_logits (Tensor): (..., Q, C + 1) of the classifier, "no object" last.
            max_logit (float): Upper bound of all CLIP logits; may be infinite.
            seen (Tensor): (C,) bool.
        """
        seg_probs = class_logits.softmax(-1)[..., :-1]
        if self.mode == 'seg':
            return seg_probs
        # CLIP's probability of a class is largest where the other classes get none: only "no object" competes.
        no_object_logits = class_logits[..., -1:]
        max_clip_prob = torch.sigmoid(max_logit - no_object_logits)
        if self.mode == 'img':
            return max_clip_prob.expand_as(seg_probs)
        if self.mode == 'unseen' or not seen.any():
            return self._ensemble(seg_probs, max_clip_prob)
        # All C classes together get at most sigmoid(max_logit + log C - "no object"), and so do the seen ones.
        max_seen_mean = torch.sigmoid(max_logit + math.log(len(seen)) - no_object_logits) / seen.sum()
        return self._join(seg_probs, max_clip_prob, max_seen_mean, seen)

    def class_offset(self, seen: Tensor) -> Tensor:
        """Return what calibration with this gamma subtracts from each class (C,); see ``calibration.class_offset``."""
        return class_offset(seen, self.gamma)

    def _ensemble(self, seg_probs: Tensor, clip_probs: Tensor) -> Tensor:
        return seg_probs ** (1 - self.lam) * clip_probs**self.lam

    def _join(self, seg_probs: Tensor, clip_probs: Tensor, seen_mean: Tensor, seen: Tensor) -> Tensor:
        """Score seen and unseen classes in their own ways (mode ``full``)."""
        seen_scores = seg_probs**self.lam * seen_mean ** (1 - self.lam)
        return torch.where(seen, seen_scores, self._ensemble(seg_probs, clip_probs))
