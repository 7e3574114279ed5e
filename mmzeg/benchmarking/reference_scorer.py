"""ZegFormer's test as reference/method.md tells it, plainly: what the faster ways must equal, and are timed against.

A full-size masked picture for every query, all sub-images in one batch through CLIP, one einsum over the whole map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from mmzeg.models import CLIPCropScorer
from mmzeg.vocabulary import Vocabulary


class ReferenceScorer:
    """CLIP's opinion; CLIP, prompts, styles and growth are those of a ``CLIPCropScorer``, to which it stands in."""

    def __init__(self, scorer: CLIPCropScorer) -> None:
        self.scorer, self.clip = scorer, scorer.clip

    @torch.no_grad()
    def __call__(self, image: Tensor, mask_logits: Tensor, vocabulary: Vocabulary, valid: tuple[int, int]) -> Tensor:
        """(Q, C) logits; arguments as of ``CLIPCropScorer``."""
        image = self.scorer.normalize(image, valid)
        masks = F.interpolate(mask_logits[None], size=image.shape[-2:], mode='bilinear', align_corners=False)[0]
        masks = masks.sigmoid() > 0.5
        if grow := self.scorer.grow:
            masks = F.max_pool2d(masks[None].float(), 2 * grow + 1, stride=1, padding=grow)[0] > 0
        looks = [
            F.normalize(self.clip.encode_image(crops(image, masks, self.clip.image_size, style)), dim=-1)
            for style in self.scorer.styles
        ]
        segments = F.normalize(sum(looks), dim=-1)
        text = self.clip.text_embeddings(vocabulary.names, self.scorer.prompts).to(segments)
        return self.clip.logit_scale * segments @ text.t()


def crops(image: Tensor, masks: Tensor, size: Sequence[int], style: str) -> Tensor:
    """(Q, 3, h, w) of a normalised image (3, H, W) and masks (Q, H, W), bool; styles ``crop`` and ``cropmask``."""
    boxes = image.new_tensor([[query, *box(mask)] for query, mask in enumerate(masks)])
    pictures = image.expand(len(masks), -1, -1, -1)
    if style == 'cropmask':
        pictures = image * masks[:, None]
    return roi_align(pictures, boxes, tuple(size), sampling_ratio=-1, aligned=True)


def box(mask: Tensor) -> tuple[int, int, int, int]:
    """First and last column and row of a mask (H, W), or all of the image where that has no area."""
    height, width = mask.shape
    rows, columns = mask.nonzero(as_tuple=True)
    if len(rows):
        found = columns.min().item(), rows.min().item(), columns.max().item(), rows.max().item()
        if (found[2] - found[0]) * (found[3] - found[1]):
            return found
    return 0, 0, width, height


def semantic_map(
    scores: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    valid: Sequence[int],
    original: Sequence[int],
    taken: Tensor,
) -> Tensor:
    """Calibrated map (C, H, W) at the original size; arguments as of ``label_map``."""
    masks = F.interpolate(mask_logits[None], size=tuple(size), mode='bilinear', align_corners=False)[0].sigmoid()
    found = torch.einsum('qc,qhw->chw', scores, masks)[:, : valid[0], : valid[1]]
    found = F.interpolate(found[None], size=tuple(original), mode='bilinear', align_corners=False)[0]
    return found - taken[:, None, None]
