"""Class, mask and CLIP logits of one image's segments, to be fused and calibrated with any setting."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device, seen_in_host_memory
from mmzeg.models.execution import Execution
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.label_map import label_and_margin_maps, label_and_query_maps, label_map
from mmzeg.models.mask_rows import mask_rows
from mmzeg.models.semantic_map import semantic_map_at_original_size
from mmzeg.vocabulary import Vocabulary


@dataclass(frozen=True)
class SegmentPredictions:
    """The logits of one image's segments, before score fusion and calibration.

    Args:
        class_logits (Tensor): (Q, C + 1) of the classifier, "no object" last.
        mask_logits (Tensor): (Q, h, w).
        clip_logits (Tensor, optional): (Q, C) of the scorer; None if it did not run.
        vocabulary (Vocabulary): The C classes.
        sizes (ImageSizes): Sizes of the image; the original one is (H, W).
        execution (Execution): Bounds the tiles in which maps are computed.
    """

    class_logits: Tensor
    mask_logits: Tensor
    clip_logits: Tensor | None
    vocabulary: Vocabulary
    sizes: ImageSizes
    execution: Execution = Execution()

    @property
    def seen(self) -> Tensor:
        """(C,) bool: which classes are seen."""
        return copy_to_device(np.array(self.vocabulary.seen_mask), self.class_logits.device)

    def scores(self, fusion: ScoreFusion) -> Tensor:
        """Return the scores (Q, C) of the segments in [0, 1], not calibrated.

        Raises:
            ValueError: The fusion mode needs CLIP logits, and there are none.
        """
        if fusion.needs_scorer and self.clip_logits is None:
            raise ValueError(f"mode {fusion.mode!r} needs CLIP logits, and there are none: use mode='seg'")
        return fusion(self.class_logits, self.clip_logits, seen_in_host_memory(self.vocabulary))

    def label_map(self, fusion: ScoreFusion) -> Tensor:
        """Return the class indices (H, W) at the image's original size."""
        class_offset = fusion.class_offset(self.seen)
        return label_map(self.scores(fusion), self.mask_logits, self.sizes, class_offset, self.execution)

    def label_map_and_margins(self, fusion: ScoreFusion) -> tuple[Tensor, Tensor]:
        """Return the class indices (H, W), and their margins (H, W) in [0, 1] over the next class.

        A pixel's margin is the difference of its two highest calibrated values in the semantic map, which is not made.
        """
        class_offset = fusion.class_offset(self.seen)
        return label_and_margin_maps(self.scores(fusion), self.mask_logits, self.sizes, class_offset, self.execution)

    def label_map_and_segments(self, fusion: ScoreFusion, masks: bool = False) -> tuple[Tensor, list[dict]]:
        """Return the label map and its segments: pixels of one class to which one query contributes most.

        Args:
            fusion (ScoreFusion): Mode, lambda and gamma.
            masks (bool): Whether segments have a ``mask``. Defaults to False.

        Returns:
            tuple[Tensor, list[dict]]: The label map (H, W), and the segments, largest first. A segment has ``name``,
            ``score`` in [0, 1], ``query``, ``area`` in pixels, ``box`` (x0, y0, x1, y1; the last pixel included), and
            with ``masks`` its ``mask``, (H, W) bool.
        """
        scores = self.scores(fusion)
        class_offset = fusion.class_offset(self.seen)
        labels, queries = label_and_query_maps(scores, self.mask_logits, self.sizes, class_offset, self.execution)
        names = self.vocabulary.names
        # Number the pairs of query and class: each is one segment. The host measures them.
        pairs = (queries * len(names) + labels).cpu()
        scores = scores.cpu()
        segments = []
        for pair in pairs.unique().tolist():
            query, label = divmod(pair, len(names))
            mask = pairs == pair
            segment = dict(name=names[label], score=scores[query, label].item(), query=query, area=int(mask.sum()))
            columns = torch.nonzero(mask.any(0))[:, 0]
            rows = torch.nonzero(mask.any(1))[:, 0]
            segment['box'] = [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
            if masks:
                segment['mask'] = mask.numpy()
            segments.append(segment)
        return labels, sorted(segments, key=lambda segment: -segment['area'])

    def semantic_map(self, fusion: ScoreFusion) -> Tensor:
        """Return the calibrated semantic map (C, H, W) at the image's original size."""
        class_offset = fusion.class_offset(self.seen)
        scores = self.scores(fusion)
        return semantic_map_at_original_size(scores, self.mask_logits, self.sizes, class_offset, self.execution)

    def explain_pixel(self, fusion: ScoreFusion, x: int, y: int, top: int = 5) -> dict:
        """Explain the label of one pixel.

        Args:
            fusion (ScoreFusion): Mode, lambda and gamma.
            x, y (int): Column and row, from 0.
            top (int): Length of the lists. Defaults to 5.

        Returns:
            dict: ``name`` and calibrated ``score`` of the pixel's class; ``runners_up``, the next classes of the pixel;
            ``query``, which contributes most to the class, and ``mask``, its mask probability at the pixel; and the
            lists of ``explain_query`` for this query. Lists are of (name, score), best first.

        Raises:
            ValueError: A pixel outside the image.
        """
        height, width = self.sizes.original
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f'pixel ({x}, {y}) is outside the image of {width} x {height}')
        scores = self.scores(fusion)
        # Masks (Q,) at the pixel.
        first_row = 0
        for tile in mask_rows(self.mask_logits, self.sizes, len(self.vocabulary), self.execution):
            if y < first_row + tile.shape[1]:
                break
            first_row += tile.shape[1]
        masks = tile[:, y - first_row, x]
        # Its column (C,) of the semantic map, and the query behind the best class.
        pixel_scores = masks @ scores - fusion.class_offset(self.seen)
        best = pixel_scores.argmax()
        query = int((scores[:, best] * masks).argmax())
        ranking = self._top(pixel_scores, top + 1)
        name, score = ranking[0]
        explanation = dict(name=name, score=score, runners_up=ranking[1:], query=query, mask=masks[query].item())
        return explanation | self.explain_query(fusion, query, top)

    def explain_query(self, fusion: ScoreFusion, query: int, top: int = 5) -> dict:
        """Return the best classes of one query by each branch, not calibrated.

        Returns:
            dict: ``seg`` (p, by the text classifier), ``img`` (p', by CLIP; None without CLIP logits) and ``fused``:
            lists of (name, score), best first, ``top`` long.
        """
        fusions = dict(seg=ScoreFusion('seg'), img=ScoreFusion('img'), fused=fusion)
        class_logits = self.class_logits[query]
        clip_logits = None if self.clip_logits is None else self.clip_logits[query]
        rankings = {}
        for branch, branch_fusion in fusions.items():
            if branch_fusion.needs_scorer and clip_logits is None:
                rankings[branch] = None
            else:
                rankings[branch] = self._top(
                    branch_fusion(class_logits, clip_logits, seen_in_host_memory(self.vocabulary)), top
                )
        return rankings

    def _top(self, values: Tensor, count: int) -> list[tuple[str, float]]:
        """Return the highest of values (C,) with their class names, best first."""
        values, indices = values.topk(min(count, len(values)))
        names = [self.vocabulary.names[index] for index in indices.tolist()]
        return list(zip(names, values.tolist(), strict=True))
