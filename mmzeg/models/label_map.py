"""Label maps without the semantic map: rows by rows, for vocabularies whose map would not fit into memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.image_sizes import ImageSizes

# Numbers that the classes, or the masks, of a tile may take: 4 MB of them, which caches hold.
TILE = 1 << 20


@torch.no_grad()
def label_map(scores: Tensor, mask_logits: Tensor, geometry: ImageSizes, taken: Tensor) -> Tensor:
    """Class indices (H, W) of one picture, as the argmax of its whole semantic map would be.

    Memory is bounded by ``TILE``, but for a copy of the mask logits; time is linear in classes.

    Args:
        scores (Tensor): (Q, C).
        mask_logits (Tensor): (Q, h, w).
        geometry (ImageSizes): Of the picture.
        taken (Tensor): (C,) what calibration takes off each class.
    """
    tiles = _labelled(scores, mask_logits, geometry, taken)
    return torch.cat([labels for labels, _ in tiles]).view(*geometry.original)


@torch.no_grad()
def label_and_query_maps(
    scores: Tensor, mask_logits: Tensor, geometry: ImageSizes, taken: Tensor
) -> tuple[Tensor, Tensor]:
    """``label_map``'s, and of every pixel the query (H, W) that gives most to its class; arguments as there."""
    found = [
        (labels, (scores[:, labels] * masks).argmax(0))
        for labels, masks in _labelled(scores, mask_logits, geometry, taken)
    ]
    return tuple(torch.cat(parts).view(*geometry.original) for parts in zip(*found, strict=True))


def _labelled(
    scores: Tensor, mask_logits: Tensor, geometry: ImageSizes, taken: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels (N,) and masks (Q, N) of N pixels at a time."""
    room = None
    for masks in mask_rows(mask_logits, geometry, scores.shape[1]):
        masks = masks.flatten(1)
        if room is None:
            # Once for all tiles, the first being the largest: the system clears whatever it hands out anew.
            room = scores.new_empty(masks.shape[1], scores.shape[1])
        found = torch.addmm(-taken, masks.t(), scores, out=room[: masks.shape[1]])
        # PyTorch's argmax is slower.
        yield found.max(1).indices, masks


def mask_rows(mask_logits: Tensor, geometry: ImageSizes, num_classes: int) -> Iterator[Tensor]:
    """Masks (Q, n, W) in 0..1 at a picture's own size, some rows at a time, from the first row to the last.

    The semantic map is resized as its masks are: r(c) = sum over q of score(q, c) x mask(q) at every pixel, and
    resizing is linear, so that it may stand before the sum, where it is of Q maps and not of C.

    Args:
        mask_logits (Tensor): (Q, h, w).
        geometry (ImageSizes): Of the picture, H x W.
        num_classes (int): C, which with Q decides how many rows a tile has.
    """
    size, valid, (height, width) = geometry.size, geometry.valid, geometry.original
    step = max(1, TILE // (max(num_classes, len(mask_logits)) * max(width, size[1])))
    # A pixel's masks side by side: so they are resized fastest, and multiplied with scores.
    maps = mask_logits.movedim(0, -1).contiguous()
    to_size, to_original = (
        Rows(before, after, maps.dtype) for before, after in ((len(maps), size[0]), (valid[0], height))
    )
    unchanged = tuple(valid) == (height, width)
    for first in range(0, height, step):
        wanted = torch.arange(first, min(first + step, height), device=maps.device)
        # The rows of the padded input that these are made of.
        needed = wanted if unchanged else to_original.span(wanted)
        masks = _widen(to_size.take(maps, needed), size[1]).sigmoid_()[:, : valid[1]]
        if not unchanged:
            masks = _widen(to_original.take(masks, wanted, needed[0]), width)
        yield masks.movedim(-1, 0)


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
        """Rows ``wanted`` of the resized maps (n, W, C), of maps (h, W, C) whose first row is number ``offset``."""
        low, high, share = self._source(wanted)
        return torch.lerp(maps[low - offset], maps[high - offset], share[:, None, None])


def _widen(maps: Tensor, width: int) -> Tensor:
    """(n, width, C) of maps (n, w, C)."""
    planes = maps[None].permute(0, 3, 1, 2)
    return F.interpolate(planes, size=(len(maps), width), mode='bilinear', align_corners=False)[0].movedim(0, -1)
