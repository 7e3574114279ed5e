"""Label maps at screen size for many settings: masks are resized once, only fusion and argmax are repeated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.models.calibration import calibrated_labels
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.mask_rows import mask_rows

# Side, in pixels, of the tiles. Classes that cannot win anywhere in a tile are skipped in it.
TILE_SIDE = 24


class Preview:
    """Label maps of one image for many settings, each equal to the argmax of the semantic map at this size.

    Args:
        predictions (SegmentPredictions): Of the image.
        size (Sequence[int]): Height h and width w of the label maps. Masks take 4 * Q bytes per pixel.
    """

    def __init__(self, predictions: SegmentPredictions, size: Sequence[int]) -> None:
        self.predictions = predictions
        self.size = tuple(size)
        # Masks (Q, h, w), padded to whole tiles.
        sizes = replace(predictions.sizes, original=self.size)
        num_classes = len(predictions.vocabulary)
        masks = torch.cat(list(mask_rows(predictions.mask_logits, sizes, num_classes, predictions.execution)), 1)
        rows, columns = (-(-side // TILE_SIDE) for side in self.size)
        padded = F.pad(masks, (0, columns * TILE_SIDE - self.size[1], 0, rows * TILE_SIDE - self.size[0]))
        # Tiles (rows * columns, Q, TILE_SIDE ** 2), and the range of each mask in each tile.
        tiles = padded.view(len(masks), rows, TILE_SIDE, columns, TILE_SIDE).permute(1, 3, 0, 2, 4)
        self._grid = (rows, columns)
        self._tiles = tiles.reshape(rows * columns, len(masks), TILE_SIDE * TILE_SIDE)
        self._max_masks = self._tiles.amax(2)
        self._min_masks = self._tiles.amin(2)
        self._cache: dict[str, tuple[ScoreFusion, list[tuple[Tensor, Tensor]]]] = {}

    @torch.no_grad()
    def label_map(self, fusion: ScoreFusion) -> np.ndarray:
        """Return class indices (h, w) int64.

        The best seen and the best unseen class of every pixel are cached per mode, so that another gamma is one
        comparison per pixel.
        """
        weights = replace(fusion, gamma=0.0)
        cached_weights, best_classes = self._cache.get(fusion.mode, (None, None))
        if cached_weights != weights:
            scores = self.predictions.scores(fusion)
            seen = self.predictions.seen
            best_classes = [self._best_classes(scores, seen), self._best_classes(scores, ~seen)]
            # Of every mode, keep one setting.
            self._cache[fusion.mode] = (weights, best_classes)
        best_seen, best_unseen = best_classes
        return self._untile(calibrated_labels(*best_seen, *best_unseen, fusion.gamma))

    def segment(self, fusion: ScoreFusion, label: int, query: int) -> np.ndarray:
        """Return the mask (h, w) bool of one segment: pixels of a class to which a query contributes most."""
        labels = self.label_map(fusion)
        contributions = self.predictions.scores(fusion)[:, label, None] * self._tiles
        return (labels == label) & (self._untile(contributions.argmax(1)) == query)

    def _best_classes(self, scores: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Return every pixel's highest score among some classes, and its class.

        Args:
            scores (Tensor): (Q, C).
            allowed (Tensor): (C,) bool, which classes compete.

        Returns:
            tuple[Tensor, Tensor]: Scores (-inf where no class is allowed) and class indices, both (N, TILE_SIDE ** 2)
            for N tiles.
        """
        classes = torch.nonzero(allowed)[:, 0]
        if not len(classes):
            shape = (len(self._tiles), TILE_SIDE * TILE_SIDE)
            return scores.new_full(shape, -torch.inf), classes.new_zeros(shape)
        scores = scores[:, classes]
        # A class whose upper bound in a tile is below another's lower bound wins nowhere in it; 1e-5 is for rounding.
        lower_bounds = (self._min_masks @ scores).amax(1, keepdim=True)
        is_candidate = self._max_masks @ scores >= lower_bounds - 1e-5
        candidates = torch.nonzero(is_candidate)[:, 1].split(is_candidate.sum(1).tolist())
        # Per tile, the best candidate of every pixel.
        best_scores = []
        best_classes = []
        for masks, candidate in zip(self._tiles, candidates, strict=True):
            best = (masks.t() @ scores[:, candidate]).max(1)
            best_scores.append(best.values)
            best_classes.append(classes[candidate][best.indices])
        return torch.stack(best_scores), torch.stack(best_classes)

    def _untile(self, tiles: Tensor) -> np.ndarray:
        """Return the map (h, w) of tiles (N, TILE_SIDE ** 2)."""
        rows, columns = self._grid
        height, width = self.size
        tiles = tiles.view(rows, columns, TILE_SIDE, TILE_SIDE).transpose(1, 2)
        return tiles.reshape(rows * TILE_SIDE, columns * TILE_SIDE)[:height, :width].cpu().numpy()
