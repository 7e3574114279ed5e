"""Scorers that use CLIP: image embeddings of segments against text embeddings of class names."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device
from mmzeg.models.scorers.base_scorer import BaseScorer
from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


class CLIPScorer(BaseScorer):
    """Classify segments by the cosine between CLIP's image and text embeddings (docs/en/method.md#clip-logits).

    A subclass defines ``encode_batch``: how CLIP's frozen image encoder embeds a segment.

    Args:
        clip (dict): ``mmzeg.CLIP``; equal configs share one model.
        prompts (str | list[str]): Prompt set, or templates, of CLIP's class names.
        pruning, merge_iou_thr: See ``BaseScorer``.
        logit_scale (float, optional): Factor of the cosine. Defaults to None: the one that CLIP was trained with, which
            is 100 in OpenAI's models.

    Raises:
        ValueError: A logit scale that is not above 0; or as ``BaseScorer``.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
        logit_scale: float | None = None,
    ) -> None:
        if logit_scale is not None and not 0 < logit_scale < math.inf:
            raise ValueError(f'scorer logit_scale must be above 0 and finite, or None, got {logit_scale}')
        super().__init__(pruning, merge_iou_thr)
        self.clip = MODELS.build(clip)
        self.prompts = prompts
        self.logit_scale = logit_scale

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Fetch CLIP's weights and compute the text embeddings before the first image; errors as in ``mmzeg.CLIP``."""
        self.clip.fetch()
        self.clip.text_embeddings(vocabulary.names, self.prompts, device=device)

    def max_logit(self, device: torch.device) -> float:
        """Return the logit of a cosine of 1, which no logit exceeds. Loads CLIP onto the device if need be."""
        with self.clip.on(device):
            return self._logit_scale + (self.clip.logit_bias or 0.0)

    def encode(self, image: Tensor, mask_logits: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Return (V, Q, d) embeddings of the segments of one image, see ``encode_batch``."""
        return self.encode_batch([image], [mask_logits], [valid_size])[0]

    @abstractmethod
    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return (V, Q, d) image embeddings, not normalized, of the segments of every image.

        V is the number of embeddings per segment, which ``classify`` averages: crop modes, or input sizes.
        """

    def classify(self, embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Return CLIP logits (Q, C) of embeddings (V, Q, d) over a vocabulary, see ``compare``."""
        device = embeddings.device
        text = self.clip.text_embeddings(vocabulary.names, self.prompts, device=device)
        return self.compare(embeddings, text)

    def compare(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """Compare image embeddings with text embeddings.

        Args:
            embeddings (Tensor): (V, Q, d), not normalized. A segment's V unit embeddings are averaged.
            text (Tensor): (C, d) unit vectors.

        Returns:
            Tensor: (Q, C) CLIP logits = logit scale * cosine (+ logit bias, if CLIP has one). A segment whose
            embeddings are zero gets equal logits for all classes.
        """
        segments = F.normalize(F.normalize(embeddings, dim=-1).mean(0), dim=-1)
        return self._logit_scale * segments @ text.t() + (self.clip.logit_bias or 0.0)

    @property
    def _logit_scale(self) -> float:
        return self.clip.logit_scale if self.logit_scale is None else self.logit_scale

    def normalize(self, image: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Normalize a (3, H, W) image in 0..255 by CLIP's mean and deviation; the padding is zero afterwards."""
        mean = copy_to_device(255 * np.float32(self.clip.image_mean), image.device)[:, None, None]
        std = copy_to_device(255 * np.float32(self.clip.image_std), image.device)[:, None, None]
        height, width = valid_size
        normalized = ((image[:, :height, :width] - mean) / std).float()
        return F.pad(normalized, (0, image.shape[2] - width, 0, image.shape[1] - height))
