"""Label maps without the semantic map: rows by rows, for vocabularies whose map would not fit into memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.geometry import Geometry

# Numbers that the classes, or the masks, of a tile may take: 4 MB of them, which caches hold.
TILE = 1 << 20


def label_map(scores: Tensor, mask_logits: Tensor, geometry: Geometry, taken: Tensor) -> Tensor:
    """Class indices (H, W) of one picture, as the argmax of its whole semantic map would be.

    Memory is bounded by ``TILE``; time is linear in classes.

    Args:
        scores (Tensor): (Q, C).
        mask_logits (Tensor): (Q, h, w).
        geometry (Geometry): Of the picture.
        taken (Tensor): (C,) what calibration takes off each class.
    """
    tiles = mask_rows(mask_logits, geometry, scores.shape[1])
    return torch.cat([_labels(scores, masks.flatten(1), taken) for masks in tiles]).view(*geometry.original)


def label_and_query_maps(
    scores: Tensor, mask_logits: Tensor, geometry: Geometry, taken: Tensor
) -> tuple[Tensor, Tensor]:
    """``label_map``'s, and of every pixel the query (H, W) that gives most to its class; arguments as there."""
    labels, queries = [], []
    for masks in mask_rows(mask_logits, geometry, scores.shape[1]):
        masks = masks.flatten(1)
        labels.append(_labels(scores, masks, taken))
        queries.append((scores[:, labels[-1]] * masks).argmax(0))
    return tuple(torch.cat(parts).view(*geometry.original) for parts in (labels, queries))


def _labels(scores: Tensor, masks: Tensor, taken: Tensor) -> Tensor:
    """(N,) labels of N pixels whose masks are (Q, N)."""
    # PyTorch's argmax is slower.
    return torch.addmm(-taken, masks.t(), scores).max(1).indices


def mask_rows(mask_logits: Tensor, geometry: Geometry, num_classes: int) -> Iterator[Tensor]:
    """Masks (Q, n, W) in 0..1 at a picture's own size, some rows at a time, from the first row to the last.

    The semantic map is resized as its masks are: r(c) = sum over q of score(q, c) x mask(q) at every pixel, and
    resizing is linear, so that it may stand before the sum, where it is of Q maps and not of C.

    Args:
        mask_logits (Tensor): (Q, h, w).
        geometry (Geometry): Of the picture, H x W.
        num_classes (int): C, which with Q decides how many rows a tile has.
    """
    size, valid, (height, width) = geometry.size, geometry.valid, geometry.original
    step = max(1, TILE // (max(num_classes, len(mask_logits)) * max(width, size[1])))
    to_size, to_original = (
        Rows(before, after, mask_logits.dtype)
        for before, after in ((mask_logits.shape[1], size[0]), (valid[0], height))
    )
    unchanged = tuple(valid) == (height, width)
    for first in range(0, height, step):
        wanted = torch.arange(first, min(first + step, height), device=mask_logits.device)
        # The rows of the padded input that these are made of.
        needed = wanted if unchanged else to_original.span(wanted)
        masks = _widen(to_size.take(mask_logits, needed), size[1]).sigmoid_()[..., : valid[1]]
        yield masks if unchanged else _widen(to_original.take(masks, wanted, needed[0]), width)


class Rows:
    """Bilinear resizing along the height, some rows at a time, as ``F.interpolate`` does it.

    Args:
        before, after (int): Rows of the whole map.
        dtype (torch.dtype): Of the map, in which ``F.interpolate`` reckons positions.
    """

    def __init__(self, before: int, after: int, dtype: torch.dtype) -> None:
        self.before, self.after, self.dtype = before, after, dtype

    def _source(self, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        position = ((wanted.to(self.dtype) + 0.5) * (self.before / self.after) - 0.5).clamp(min=0)
        low = position.long().clamp(max=self.before - 1)
        return low, (low + 1).clamp(max=self.before - 1), position - low

    def span(self, wanted: Tensor) -> Tensor:
        """All rows from the first to the last that ``wanted`` are made of."""
        low, high, _ = self._source(wanted)
        return torch.arange(int(low[0]), int(high[-1]) + 1, device=wanted.device)

    def take(self, maps: Tensor, wanted: Tensor, offset: Tensor | int = 0) -> Tensor:
        """Rows ``wanted`` of the resized maps (C, n, W), of maps (C, h, W) whose first row is number ``offset``."""
        low, high, share = self._source(wanted)
        return torch.lerp(maps[:, low - offset], maps[:, high - offset], share[:, None])


def _widen(maps: Tensor, width: int) -> Tensor:
    return F.interpolate(maps[None], size=(maps.shape[1], width), mode='bilinear', align_corners=False)[0]
