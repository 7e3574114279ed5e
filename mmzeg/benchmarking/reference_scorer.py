"""ZegFormer's test computed plainly, as the released code does it: what faster code must equal and is timed against.

One full-size masked image per query, all crops in one batch through CLIP, one einsum for the semantic map
(docs/en/method.md#masked-crops and #semantic-map).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from mmzeg.models.scorers import BaseScorer, CLIPCropScorer
from mmzeg.vocabulary import Vocabulary


class ReferenceScorer(BaseScorer):
    """Score segments as a ``CLIPCropScorer`` does, without its shortcuts.

    Args:
        scorer (CLIPCropScorer): The scorer whose CLIP, prompts, crop modes and mask dilation are used.
    """

    def __init__(self, scorer: CLIPCropScorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.clip = scorer.clip

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Load CLIP and compute the text embeddings."""
        self.scorer.prepare(vocabulary, device)

    @torch.no_grad()
    def encode(self, image: Tensor, mask_logits: Tensor, valid_size: tuple[int, int]) -> Tensor:
        """Return unit embeddings (Q, d) of the crops of one image, averaged over the crop modes."""
        # Masks at the size of the image
        image = self.scorer.normalize(image, valid_size)
        masks = F.interpolate(mask_logits[None], size=image.shape[-2:], mode='bilinear', align_corners=False)[0]
        masks = masks.sigmoid() > 0.5
        dilation = self.scorer.mask_dilation
        if dilation:
            masks = F.max_pool2d(masks[None].float(), 2 * dilation + 1, stride=1, padding=dilation)[0] > 0
        # CLIP embeddings of the crops
        embeddings = []
        for crop_mode in self.scorer.crop_modes:
            crops = reference_crops(image, masks, self.clip.image_size, crop_mode)
            embeddings.append(F.normalize(self.clip.encode_image(crops), dim=-1))
        return F.normalize(sum(embeddings), dim=-1)

    @torch.no_grad()
    def classify(self, embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Return CLIP logits (Q, C): scale times cosine."""
        text = self.clip.text_embeddings(vocabulary.names, self.scorer.prompts).to(embeddings)
        return self.clip.logit_scale * embeddings @ text.t()


def reference_crops(image: Tensor, masks: Tensor, size: Sequence[int], crop_mode: str) -> Tensor:
    """Return the crops of all masks, by torchvision's RoIAlign on one full-size image per mask.

    Args:
        image (Tensor): (3, H, W), normalized.
        masks (Tensor): (Q, H, W) bool.
        size (Sequence[int]): Height h and width w of CLIP's input, in pixels.
        crop_mode (str): ``crop`` or ``cropmask``.

    Returns:
        Tensor: (Q, 3, h, w).
    """
    boxes = image.new_tensor([[query, *reference_box(mask)] for query, mask in enumerate(masks)])
    images = image.expand(len(masks), -1, -1, -1)
    if crop_mode == 'cropmask':
        images = image * masks[:, None]
    return roi_align(images, boxes, tuple(size), sampling_ratio=-1, aligned=True)


def reference_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1) of a mask (H, W): its first and last column and row.

    A box without area becomes the complete image (0, 0, W, H), as in the released code.
    """
    height, width = mask.shape
    rows, columns = mask.nonzero(as_tuple=True)
    if len(rows) == 0:
        return 0, 0, width, height
    x0, x1 = columns.min().item(), columns.max().item()
    y0, y1 = rows.min().item(), rows.max().item()
    if x0 == x1 or y0 == y1:
        return 0, 0, width, height
    return x0, y0, x1, y1


def reference_semantic_map(
    scores: Tensor,
    mask_logits: Tensor,
    padded: Sequence[int],
    valid: Sequence[int],
    original: Sequence[int],
    class_offset: Tensor,
) -> Tensor:
    """Return the calibrated semantic map (C, H, W) of one image at its original size.

    Args:
        scores (Tensor): (Q, C) fused scores.
        mask_logits (Tensor): (Q, h, w).
        padded, valid, original (Sequence[int]): Heights and widths, see ``mmzeg.models.image_sizes.ImageSizes``.
        class_offset (Tensor): (C,) what calibration subtracts from each class.
    """
    masks = F.interpolate(mask_logits[None], size=tuple(padded), mode='bilinear', align_corners=False)[0].sigmoid()
    semantic_map = torch.einsum('qc,qhw->chw', scores, masks)[:, : valid[0], : valid[1]]
    semantic_map = F.interpolate(semantic_map[None], size=tuple(original), mode='bilinear', align_corners=False)[0]
    return semantic_map - class_offset[:, None, None]
