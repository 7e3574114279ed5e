"""Two opinions on every segment become one score, and calibration (paper section 3.4, equations 4 to 6)."""

import math
from numbers import Real

import torch
from torch import Tensor

from mmzeg.registry import MODELS

MODES = ('seg', 'img', 'full', 'unseen')


@MODELS.register_module()
class ScoreFusion:
    """Fuses the head's opinion p with CLIP's opinion p' and calibrates seen classes.

    Args:
        mode (str): ``seg``: p alone. ``img``: p' alone. ``full``: unseen classes get p^(1 - lam) * p'^lam, seen ones
            p^lam * (mean of p' over the seen)^(1 - lam). ``unseen``: every class as if unseen.
        lam (float): Ensemble balance lambda in [0, 1]. Defaults to 2 / 3.
        gamma (float): Calibration, subtracted from every seen class of the semantic map, >= 0. Defaults to 0.1.

    Raises:
        ValueError: An unknown mode, or lam or gamma out of range, not finite, or no number.
    """

    def __init__(self, mode: str = 'full', lam: float = 2 / 3, gamma: float = 0.1) -> None:
        if mode not in MODES:
            raise ValueError(f'fusion mode {mode!r} is unknown: use one of {", ".join(MODES)}')
        if not isinstance(lam, Real) or not 0 <= lam <= 1:
            raise ValueError(f'fusion lam must lie in [0, 1], got {lam}')
        # Times the 0 of an unseen class infinity is no number; and what is none is in no order with others.
        if not isinstance(gamma, Real) or not 0 <= gamma <= torch.finfo(torch.float32).max:
            raise ValueError(f'fusion gamma must be 0 or more, and finite, got {gamma}')
        self.mode, self.lam, self.gamma = mode, lam, gamma

    @property
    def needs_scorer(self) -> bool:
        """Whether CLIP's opinion is asked for at all."""
        return self.mode != 'seg'

    def __call__(self, segment_logits: Tensor, clip_logits: Tensor | None, seen: Tensor) -> Tensor:
        """Score every segment.

        Args:
            segment_logits (Tensor): (..., Q, C + 1) of the classifier, "no object" last.
            clip_logits (Tensor, optional): (..., Q, C) of the scorer; unused in mode ``seg``.
            seen (Tensor): (C,) bool.

        Returns:
            Tensor: (..., Q, C) scores in [0, 1].
        """
        p = segment_logits.softmax(-1)[..., :-1]
        if self.mode == 'seg':
            return p
        # The released code lets the query's own "no object" logit compete with CLIP's, then drops that column.
        q = torch.cat([clip_logits, segment_logits[..., -1:]], -1).softmax(-1)[..., :-1]
        if self.mode == 'img':
            return q
        as_unseen = p ** (1 - self.lam) * q**self.lam
        if self.mode == 'unseen' or not seen.any():
            return as_unseen
        seen_mean = q[..., seen].mean(-1, keepdim=True)
        return torch.where(seen, p**self.lam * seen_mean ** (1 - self.lam), as_unseen)

    def bound(self, segment_logits: Tensor, max_logit: float, seen: Tensor) -> Tensor:
        """(..., Q, C): what no score can exceed, whatever the scorer's logits, none of which is above ``max_logit``."""
        p, no_object = segment_logits.softmax(-1)[..., :-1], segment_logits[..., -1:]
        one = torch.sigmoid(max_logit - no_object)
        if self.mode == 'seg':
            return p
        if self.mode == 'img':
            return one.expand_as(p)
        as_unseen = p ** (1 - self.lam) * one**self.lam
        if self.mode == 'unseen' or not seen.any():
            return as_unseen
        seen_mean = torch.sigmoid(max_logit + math.log(len(seen)) - no_object) / seen.sum()
        return torch.where(seen, p**self.lam * seen_mean ** (1 - self.lam), as_unseen)

    def calibrate(self, semantic_map: Tensor, seen: Tensor) -> Tensor:
        """``calibrate`` with this fusion's gamma."""
        return calibrate(semantic_map, seen, self.gamma)


def calibrate(semantic_map: Tensor, seen: Tensor, gamma: float) -> Tensor:
    """Subtract gamma from the seen (C,) classes of a (B, C, H, W) map; equation 6 of the paper, acting on the map."""
    return semantic_map - gamma * seen.to(semantic_map.dtype)[:, None, None]
