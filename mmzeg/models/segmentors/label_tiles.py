"""Label maps without the semantic map: rows by rows, for vocabularies whose map would not fit into memory."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers that the classes of a tile may take, 64 MB of them.
TILE = 1 << 24


def label_map(
    scores: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    valid: Sequence[int],
    original: Sequence[int],
    taken: Tensor,
) -> Tensor:
    """Class indices (H, W) of one picture, as the argmax of its whole semantic map would be.

    Memory is bounded by ``TILE`` and Q masks of a few rows; time is linear in classes.

    Args:
        scores (Tensor): (Q, C).
        mask_logits (Tensor): (Q, h, w).
        size (Sequence[int]): Height and width of the padded input.
        valid (Sequence[int]): Of the picture inside it.
        original (Sequence[int]): Of the label map: H, W.
        taken (Tensor): (C,) what calibration takes off each class.
    """
    height, width = original
    step = max(1, TILE // (scores.shape[1] * max(width, size[1])))
    rows = Rows(mask_logits.shape[1], size[0]), Rows(valid[0], height)
    found = []
    for first in range(0, height, step):
        wanted = torch.arange(first, min(first + step, height), device=scores.device)
        # The rows of the padded input that these are made of, and the mask logits' rows that those are made of.
        needed = rows[1].span(wanted)
        logits = rows[0].take(mask_logits, needed)
        masks = _widen(logits, size[1]).sigmoid()
        part = torch.einsum('qc,qhw->chw', scores, masks)[..., : valid[1]]
        part = _widen(rows[1].take(part, wanted, needed[0]), width)
        found.append((part - taken[:, None, None]).argmax(0))
    return torch.cat(found)


class Rows:
    """Bilinear resizing along the height, some rows at a time, as ``F.interpolate`` does it.

    Args:
        before, after (int): Rows of the whole map.
    """

    def __init__(self, before: int, after: int) -> None:
        self.before, self.after = before, after

    def _source(self, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        position = ((wanted.float() + 0.5) * (self.before / self.after) - 0.5).clamp(min=0)
        low = position.long().clamp(max=self.before - 1)
        return low, (low + 1).clamp(max=self.before - 1), position - low

    def span(self, wanted: Tensor) -> Tensor:
        """All rows from the first to the last that ``wanted`` are made of."""
        low, high, _ = self._source(wanted)
        return torch.arange(int(low[0]), int(high[-1]) + 1, device=wanted.device)

    def take(self, maps: Tensor, wanted: Tensor, offset: Tensor | int = 0) -> Tensor:
        """Rows ``wanted`` of the resized maps (C, n, W), of maps (C, h, W) whose first row is number ``offset``."""
        low, high, share = self._source(wanted)
        share = share[:, None]
        return (1 - share) * maps[:, low - offset] + share * maps[:, high - offset]


def _widen(maps: Tensor, width: int) -> Tensor:
    return F.interpolate(maps[None], size=(maps.shape[1], width), mode='bilinear', align_corners=False)[0]
