"""The base class of every scorer: what the segmentor, the inferencer and the demo page call.

A scorer that uses CLIP subclasses ``CLIPScorer`` (one embedding per crop) or ``OnePassScorer`` (one pass per image).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmzeg.models.execution import Execution
from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


class BaseScorer(ABC):
    """Score every segment of an image against the class names, at test only.

    A scorer works in two steps. ``encode`` reads the image and the masks, and takes long. ``classify`` compares what
    ``encode`` returned with class names, is fast, and may be repeated for other names. A subclass defines these two.
    A scorer is not a module: its weights are neither trained, nor moved by the runner, nor saved.

    Args:
        pruning (dict, optional): ``mmzeg.GuaranteedPruning`` or ``mmzeg.ThresholdPruning``: which segments are not
            scored. Defaults to None: all are.
        merge_iou_thr (float, optional): Masks with at least this IoU are scored as one, see ``merge_similar_masks``;
            in (0, 1]. Defaults to None: every mask is scored as it is.

    Attributes:
        execution (Execution): How ``encode_batch`` may cut its work. ``ZegFormer`` sets it to its own.

    Raises:
        ValueError: ``merge_iou_thr`` is out of range.
    """

    def __init__(self, pruning: dict | None = None, merge_iou_thr: float | None = None) -> None:
        if merge_iou_thr is not None and not 0 < merge_iou_thr <= 1:
            raise ValueError(f'scorer merge_iou_thr must lie in (0, 1], or be None, got {merge_iou_thr}')
        self.merge_iou_thr = merge_iou_thr
        self.execution = Execution()
        self.pruning = None if pruning is None else MODELS.build(pruning)

    @abstractmethod
    def encode(self, image: Tensor, mask_logits: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Encode every segment of one image, without any class name.

        Args:
            image (Tensor): (3, H, W) RGB in 0..255, padded.
            mask_logits (Tensor): (Q, h, w), any resolution.
            valid_size (tuple[int, int]): Height and width of the image within the padding.

        Returns:
            Tensor: (..., Q, d) embeddings, of the form that ``classify`` takes.
        """

    @abstractmethod
    def classify(self, embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Return logits (Q, C) of the segments of one image over C classes, from what ``encode`` returned."""

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Encode the segments of several images, which may differ in number; see ``encode``."""
        return [self.encode(*inputs) for inputs in zip(images, mask_logits, valid_sizes, strict=True)]

    def reuses_features(self, backbone: nn.Module) -> bool:
        """Return whether ``encode_batch`` takes the backbone's last maps as ``features``. Defaults to False."""
        return False

    @torch.no_grad()
    def score_segments(
        self,
        images: Sequence[Tensor],
        mask_logits: Sequence[Tensor],
        vocabulary: Vocabulary,
        valid_sizes: Sequence[tuple[int, int]],
        features: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return logits (Q, C) of the segments of every image; see ``encode`` for the arguments.

        ``features`` are the backbone's last maps (c, h, w), which ``encode_batch`` gets only if the scorer reuses them.
        """
        reused = {} if features is None else dict(features=features)
        embeddings = self.encode_batch(images, mask_logits, valid_sizes, **reused)
        return [self.classify(image_embeddings, vocabulary) for image_embeddings in embeddings]

    def __call__(
        self, image: Tensor, mask_logits: Tensor, vocabulary: Vocabulary, valid_size: tuple[int, int]
    ) -> Tensor:
        """Return logits (Q, C) of the segments of one image; see ``encode`` for the arguments."""
        return self.score_segments([image], [mask_logits], vocabulary, [valid_size])[0]

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:  # noqa: B027
        """Load what scoring needs before the first image, or raise an error that says what is missing.

        Args:
            vocabulary (Vocabulary): The classes that will be scored.
            device (str | torch.device): Where the images will be.
        """

    def max_logit(self, device: torch.device) -> float:
        """Return what no logit exceeds, from which ``GuaranteedPruning`` bounds scores. Defaults to infinity."""
        return math.inf
