"""Score fusion: the ensemble of the head's and CLIP's class probabilities (docs/en/method.md#score-fusion)."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from mmzeg.models.calibration import class_offset
from mmzeg.models.device_copies import copy_to_device
from mmzeg.registry import MODELS

MODES = ('seg', 'img', 'full', 'unseen', 'geometric')


@MODELS.register_module()
@dataclass
class ScoreFusion:
    """Combine the head's class probabilities p with CLIP's p' into one score per segment and class.

    Modes but ``geometric`` are ZegFormer's: p and p' are softmax over the classes and "no object", whose logit is the
    head's in both. In mode ``geometric``, FC-CLIP's, both are softmax over the classes only; the products
    p^(1 - w) * p'^w, where w is alpha for seen and beta for unseen classes, are normalized to sum 1 over the classes,
    and multiplied by 1 - (the head's probability of "no object").

    Args:
        mode (str): ``seg``: only p. ``img``: only p'. ``full``: unseen classes get p^(1 - lam) * p'^lam, seen ones
            p^lam * (mean of p' over the seen classes)^(1 - lam). ``unseen``: every class as if unseen. ``geometric``:
            see above.
        lam (float): Ensemble weight lambda of ``full`` and ``unseen``, in [0, 1]. Defaults to 2 / 3.
        gamma (float): Calibration, subtracted from every seen class of the semantic map, >= 0. Defaults to 0.1.
        alpha, beta (float): CLIP's weight of ``geometric`` in seen and in unseen classes, in [0, 1]. Default to 0.4 and
            0.8, FC-CLIP's.
        ensemble_on_valid_mask (bool): In mode ``geometric``, a segment whose CLIP logits are all equal is left to the
            head: alpha and beta are 0. Scorers give such logits where a mask covers no cell of CLIP's map, see their
            ``empty_mask``. Defaults to False.

    Raises:
        ValueError: An unknown mode; a number out of range, not finite, or not a number.
    """

    mode: str = 'full'
    lam: float = 2 / 3
    gamma: float = 0.1
    alpha: float = 0.4
    beta: float = 0.8
    ensemble_on_valid_mask: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'fusion mode {self.mode!r} is unknown: use one of {", ".join(MODES)}')
        for name in ('lam', 'alpha', 'beta'):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise ValueError(f'fusion {name} must lie in [0, 1], got {value}')
        # Infinity times 0, the offset of an unseen class, is NaN. NaN itself fails both comparisons.
        if not isinstance(self.gamma, Real) or not 0 <= self.gamma <= torch.finfo(torch.float32).max:
            raise ValueError(f'fusion gamma must be 0 or more, and finite, got {self.gamma}')

    @property
    def needs_scorer(self) -> bool:
        """Whether this mode uses CLIP logits."""
        return self.mode != 'seg'

    def __call__(self, class_logits: Tensor, clip_logits: Tensor | None, seen: Tensor) -> Tensor:
        """Score every segment.

        Args:
            class_logits (Tensor): (..., Q, C + 1) of the classifier, "no object" last.
            clip_logits (Tensor, optional): (..., Q, C) of the scorer, minus infinity for a segment that pruning skips;
                unused in mode ``seg``.
            seen (Tensor): (C,) bool, in host memory if the host shall not wait for the device.

        Returns:
            Tensor: (..., Q, C) scores in [0, 1], not calibrated.
        """
        seen, seen_indices = _on_device(seen, class_logits.device)
        if self.mode == 'geometric':
            return self._geometric(class_logits, clip_logits, seen)
        seg_probs = class_logits.softmax(-1)[..., :-1]
        if self.mode == 'seg':
            return seg_probs
        # The released code lets the query's "no object" logit compete with CLIP's logits, then drops that column.
        clip_probs = torch.cat([clip_logits, class_logits[..., -1:]], -1).softmax(-1)[..., :-1]
        if self.mode == 'img':
            return clip_probs
        if self.mode == 'unseen' or not len(seen_indices):
            return self._ensemble(seg_probs, clip_probs)
        seen_mean = clip_probs[..., seen_indices].mean(-1, keepdim=True)
        return self._join(seg_probs, clip_probs, seen_mean, seen)

    def upper_bound(self, class_logits: Tensor, max_logit: float, seen: Tensor) -> Tensor:
        """Return (..., Q, C) bounds that no score exceeds, if no CLIP logit exceeds ``max_logit``.

        Args:
            class_logits (Tensor): (..., Q, C + 1) of the classifier, "no object" last.
            max_logit (float): Upper bound of all CLIP logits; may be infinite.
            seen (Tensor): (C,) bool, as of ``__call__``.
        """
        seen, seen_indices = _on_device(seen, class_logits.device)
        if self.mode == 'geometric':
            return self._geometric_bound(class_logits, seen)
        seg_probs = class_logits.softmax(-1)[..., :-1]
        if self.mode == 'seg':
            return seg_probs
        # CLIP's probability of a class is largest where the other classes get none: only "no object" competes.
        no_object_logits = class_logits[..., -1:]
        max_clip_prob = torch.sigmoid(max_logit - no_object_logits)
        if self.mode == 'img':
            return max_clip_prob.expand_as(seg_probs)
        if self.mode == 'unseen' or not len(seen_indices):
            return self._ensemble(seg_probs, max_clip_prob)
        # All C classes together get at most sigmoid(max_logit + log C - "no object"), and so do the seen ones.
        max_seen_mean = torch.sigmoid(max_logit + math.log(len(seen)) - no_object_logits) / len(seen_indices)
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

    def _geometric(self, class_logits: Tensor, clip_logits: Tensor, seen: Tensor) -> Tensor:
        """Score every segment by FC-CLIP's ensemble; 0 for segments that pruning skips."""
        log_seg_probs = class_logits[..., :-1].log_softmax(-1)
        weights = self._class_weights(seen)
        if self.ensemble_on_valid_mask:
            is_valid = (clip_logits != clip_logits[..., :1]).any(-1, keepdim=True)
            weights = weights * is_valid
        log_scores = (1 - weights) * log_seg_probs + weights * clip_logits.log_softmax(-1)
        scores = log_scores.softmax(-1) * _object_probs(class_logits)
        is_scored = clip_logits[..., :1] > -torch.inf
        return torch.where(is_scored, scores, torch.zeros_like(scores))

    def _geometric_bound(self, class_logits: Tensor, seen: Tensor) -> Tensor:
        """Return (..., Q, C) bounds of mode ``geometric``, for any CLIP logits.

        A class's share is the largest where CLIP gives it all of its probability. Then classes with weight 0, which
        CLIP does not change, are all that competes.
        """
        log_seg_probs = class_logits[..., :-1].log_softmax(-1)
        weights = self._class_weights(seen)
        seg_probs = log_seg_probs.exp()
        fixed_probs = torch.where(weights == 0, seg_probs, torch.zeros_like(seg_probs))
        competing = (fixed_probs.sum(-1, keepdim=True) - fixed_probs).clamp(min=0)
        highest = ((1 - weights) * log_seg_probs).exp()
        return highest / (highest + competing) * _object_probs(class_logits)

    def _class_weights(self, seen: Tensor) -> Tensor:
        """Return CLIP's weight of every class (C,) in mode ``geometric``."""
        return torch.where(seen, float(self.alpha), float(self.beta))


def _on_device(seen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which classes are seen, (C,) bool, and their indices, both on a device."""
    is_seen = seen.cpu().numpy()
    return copy_to_device(is_seen, device), copy_to_device(is_seen.nonzero()[0], device)


def _object_probs(class_logits: Tensor) -> Tensor:
    """Return the head's probability (..., Q, 1) that a segment is an object."""
    return 1 - class_logits.softmax(-1)[..., -1:]
