"""What every scorer is that asks CLIP: a frozen image encoder looks, text embeddings name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


class CLIPScorer(ABC):
    """Compares what CLIP sees of every segment with its text embeddings. No trained weight is here.

    Args:
        clip (dict): ``mmzeg.CLIP``; equal configs share one model.
        prompts (str | list[str]): Prompt set, or templates, of CLIP's class names.
        pruning (dict, optional): ``mmzeg.GuaranteedPruning`` or ``mmzeg.ThresholdPruning``: which segments CLIP is not
            asked about. Defaults to None: it is asked about all.
        merge_iou_thr (float, optional): Masks with at least this IoU are shown to CLIP as one, see ``merge_similar_masks``.
            Defaults to None: each is shown as it is.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        if merge_iou_thr is not None and not 0 < merge_iou_thr <= 1:
            raise ValueError(f'scorer merge_iou_thr must lie above 0 and up to 1, or be None, got {merge_iou_thr}')
        self.merge_iou_thr = merge_iou_thr
        self.clip = MODELS.build(clip)
        self.prompts = prompts
        self.pruning = None if pruning is None else MODELS.build(pruning)

    def max_logit(self, device: torch.device) -> float:
        """What no logit exceeds, that of a cosine of 1; CLIP is loaded onto the device that will ask it."""
        with self.clip.on(device):
            return self.clip.logit_scale + (self.clip.logit_bias or 0.0)

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Have text embeddings and CLIP's weights at hand before the first image; errors as in ``mmzeg.CLIP``."""
        self.clip.fetch()
        self.clip.text_embeddings(vocabulary.names, self.prompts, device=device)

    def __call__(
        self, image: Tensor, mask_logits: Tensor, vocabulary: Vocabulary, valid_size: tuple[int, int]
    ) -> Tensor:
        """Logits of every segment of one image.

        Args:
            image (Tensor): (3, H, W) RGB in 0..255, padded.
            mask_logits (Tensor): (Q, h, w), any resolution.
            vocabulary (Vocabulary): C classes.
            valid_size (tuple[int, int]): Height and width of the image within the padding.

        Returns:
            Tensor: (Q, C) = CLIP's scale x cosine (+ its bias, if it has one).
        """
        return self.batch([image], [mask_logits], vocabulary, [valid_size])[0]

    @torch.no_grad()
    def batch(
        self,
        images: Sequence[Tensor],
        mask_logits: Sequence[Tensor],
        vocabulary: Vocabulary,
        valid_sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """The same for several images, which may differ in their number of segments."""
        return [self.name(views, vocabulary) for views in self.encode_batch(images, mask_logits, valid_sizes)]

    def name(self, views: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Logits (Q, C) of what ``embed`` found of one image."""
        embeddings = F.normalize(F.normalize(views, dim=-1).mean(0), dim=-1)
        device = embeddings.device
        text = self.clip.text_embeddings(vocabulary.names, self.prompts, device=device).to(device)
        return self.clip.logit_scale * embeddings @ text.t() + (self.clip.logit_bias or 0.0)

    def embed(self, image: Tensor, mask_logits: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """(V, Q, d) embeddings of one image, see ``encode_batch``; arguments as in ``__call__``."""
        return self.encode_batch([image], [mask_logits], [valid_size])[0]

    @abstractmethod
    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """(V, Q, d) image embeddings of V views of every segment, not normalised, for every image."""

    def normalize(self, image: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Give a (3, H, W) image in 0..255 CLIP's mean and deviation; the padding becomes zero afterwards."""
        mean = 255 * image.new_tensor(self.clip.image_mean)[:, None, None]
        std = 255 * image.new_tensor(self.clip.image_std)[:, None, None]
        height, width = valid_size
        valid = ((image[:, :height, :width] - mean) / std).float()
        return F.pad(valid, (0, image.shape[2] - width, 0, image.shape[1] - height))
