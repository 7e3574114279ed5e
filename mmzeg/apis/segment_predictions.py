"""What network and CLIP say of a picture's segments, before it is decided which class wins where."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import label_and_query_maps, label_map, mask_rows
from mmzeg.vocabulary import Vocabulary


@dataclass(frozen=True)
class EncodedImage:
    """The segments of one picture, which any vocabulary can name.

    Args:
        embeddings (Tensor): (Q, c) of the segments.
        mask_logits (Tensor): (Q, h, w).
        views (Tensor, optional): (V, Q, d) CLIP's embeddings, None where there is no scorer.
        geometry (ImageSizes): Of the picture.
        image (Tensor): (3, H', W') RGB in 0..255, the padded input that the scorer is given.
    """

    embeddings: Tensor
    mask_logits: Tensor
    views: Tensor | None
    geometry: ImageSizes
    image: Tensor


@dataclass(frozen=True)
class SegmentPredictions:
    """The segments of one picture, and what is said of them. Fusion and calibration come after.

    Args:
        class_logits (Tensor): (Q, C + 1) of the classifier, "no object" last.
        mask_logits (Tensor): (Q, h, w).
        clip_logits (Tensor, optional): (Q, C) of the scorer; None where it was not asked.
        vocabulary (Vocabulary): The C classes.
        geometry (ImageSizes): Of the picture.
    """

    class_logits: Tensor
    mask_logits: Tensor
    clip_logits: Tensor | None
    vocabulary: Vocabulary
    geometry: ImageSizes

    @property
    def seen(self) -> Tensor:
        """(C,) bool: which classes are seen."""
        return torch.tensor(self.vocabulary.seen_mask, device=self.class_logits.device)

    def scores(self, fusion: ScoreFusion) -> Tensor:
        """(Q, C) scores in [0, 1] of the segments, not calibrated.

        Raises:
            ValueError: The fusion needs CLIP's opinion and it was not asked.
        """
        if fusion.needs_scorer and self.clip_logits is None:
            raise ValueError(f"mode {fusion.mode!r} needs CLIP's opinion, and there is none: use mode='seg'")
        return fusion(self.class_logits, self.clip_logits, self.seen)

    def label_map(self, fusion: ScoreFusion) -> Tensor:
        """(H, W) class indices at the picture's own size."""
        return label_map(*self._tiled(fusion))

    def read(self, fusion: ScoreFusion, masks: bool = False) -> tuple[Tensor, list[dict]]:
        """The label map (H, W), and its parts: pixels of one class to which one query gives most.

        Returns:
            tuple[Tensor, list[dict]]: Every part, largest first, has ``name``, ``score`` in [0, 1], ``box`` (x0, y0,
            x1, y1) of its first and last pixel, ``area`` in pixels, ``query``, and with ``masks`` its ``mask``, (H, W)
            bool.
        """
        labels, queries = label_and_query_maps(*self._tiled(fusion))
        scores, names, found = self.scores(fusion), self.vocabulary.names, []
        pairs = queries * len(names) + labels
        for pair in pairs.unique().tolist():
            query, label = divmod(pair, len(names))
            inside = pairs == pair
            columns, rows = (torch.nonzero(inside.any(axis))[:, 0] for axis in (0, 1))
            part = dict(name=names[label], score=scores[query, label].item(), query=query, area=int(inside.sum()))
            part['box'] = [int(side) for side in (columns[0], rows[0], columns[-1], rows[-1])]
            found.append(part | dict(mask=inside.cpu().numpy()) if masks else part)
        return labels, sorted(found, key=lambda part: -part['area'])

    def semantic_map(self, fusion: ScoreFusion) -> Tensor:
        """(C, H, W) at the picture's own size, calibrated."""
        scores = self.scores(fusion)
        rows = [torch.einsum('qc,qhw->chw', scores, masks) for masks in self._mask_rows()]
        return fusion.calibrate(torch.cat(rows, 1), self.seen)

    def explain(self, fusion: ScoreFusion, x: int, y: int, top: int = 5) -> dict:
        """How one pixel got its name.

        Args:
            fusion (ScoreFusion): What decided.
            x, y (int): Column and row, from 0.
            top (int): How many names a list has.

        Returns:
            dict: ``name`` and ``score`` of the class that won, calibrated; ``runners_up``, the next classes of the
            pixel; ``query``, which gave most to it, and ``mask``, that query's mask there, in [0, 1]; and what was said
            of that query's segment, see ``of_query``. Lists are of (name, score), best first.

        Raises:
            ValueError: A pixel outside the picture.
        """
        height, width = self.geometry.original
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f'pixel ({x}, {y}) is outside the picture of {width} x {height}')
        scores, row = self.scores(fusion), 0
        for masks in self._mask_rows():
            if y < row + masks.shape[1]:
                break
            row += masks.shape[1]
        mask = masks[:, y - row, x]
        pixel = mask @ scores - fusion.gamma * self.seen.to(scores.dtype)
        best = pixel.argmax()
        query = int((scores[:, best] * mask).argmax())
        ranked = self._top(pixel, top + 1)
        return dict(
            name=ranked[0][0],
            score=ranked[0][1],
            runners_up=ranked[1:],
            query=query,
            mask=mask[query].item(),
            **self.of_query(fusion, query, top),
        )

    def of_query(self, fusion: ScoreFusion, query: int, top: int = 5) -> dict:
        """What was said of a query's segment: ``seg`` (p), ``img`` (p', None if CLIP was not asked) and ``fused``.

        Lists are of (name, score), best first.
        """
        class_logits = self.class_logits[query]
        clip_logits = None if self.clip_logits is None else self.clip_logits[query]
        said = dict(seg=ScoreFusion('seg'), img=ScoreFusion('img'), fused=fusion)
        return {
            name: None
            if one.needs_scorer and clip_logits is None
            else self._top(one(class_logits, clip_logits, self.seen), top)
            for name, one in said.items()
        }

    def _top(self, values: Tensor, count: int) -> list[tuple[str, float]]:
        values, indices = values.topk(min(count, len(values)))
        return [
            (self.vocabulary.names[index], value)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def _mask_rows(self) -> Iterator[Tensor]:
        return mask_rows(self.mask_logits, self.geometry, len(self.vocabulary))

    def _tiled(self, fusion: ScoreFusion) -> tuple:
        scores = self.scores(fusion)
        return scores, self.mask_logits, self.geometry, fusion.gamma * self.seen.to(scores.dtype)
