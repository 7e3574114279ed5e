"""CLIP logits from crops in which learned prompts stand in for the background: OVSeg (arXiv 2210.04150)."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmzeg.clip.fast_encoders import reads_class_token
from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.models.scorers.crops import bytes_per_crop, mask_probabilities
from mmzeg.models.scorers.mask_prompts import check_mask_prompts, encode_with_prompts, read_mask_prompts
from mmzeg.models.scorers.unique_masks import unique_masks
from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


@MODELS.register_module()
class CLIPMaskPromptScorer(CLIPScorer):
    """Encode one crop per segment, with mask prompts in the stead of the patches outside the mask.

    For open_clip's own vision transformers that read a class token. A crop is the box of the mask; outside the mask it
    has CLIP's mean color. It is resized bicubically, without antialiasing, its mask to the nearest pixel. A segment
    whose mask covers no pixel gets an embedding of zeros, and so equal logits for all classes.

    Args:
        clip, prompts, pruning, merge_iou_thr, logit_scale: See ``CLIPScorer``.
        mask_prompts (str, optional): Weight file that holds ``visual.mask_embedding`` (depth, patches, width). Defaults
            to None: CLIP's own file, as ``tools/model_converters/ovseg.py`` writes it.

    Raises:
        ValueError: No file of mask prompts.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        mask_prompts: str | None = None,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
        logit_scale: float | None = None,
    ) -> None:
        super().__init__(clip, prompts, pruning, merge_iou_thr, logit_scale)
        if mask_prompts is None and not Path(self.clip.pretrained).is_file():
            raise ValueError(
                f"scorer mask_prompts is None, and CLIP's weights {self.clip.pretrained!r} are no file that could hold "
                'them: set it to a file with visual.mask_embedding'
            )
        self.mask_prompts = mask_prompts or self.clip.pretrained
        self._prompts: dict[torch.device, Tensor] = {}

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Load CLIP and the mask prompts, and compute the text embeddings; ValueError if prompts and CLIP differ."""
        super().prepare(vocabulary, device)
        with self.clip.on(torch.device(device)) as network:
            self._prompts_for(network.visual, torch.device(device))

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return (1, Q, d) embeddings of every image's segments; zeros for masks that cover no pixel."""
        embeddings = []
        for image, logits, (height, width) in zip(images, mask_logits, valid_sizes, strict=True):
            if not len(logits):
                embeddings.append(image.new_zeros(1, 0, self.clip.embed_dim))
                continue
            normalized = self.normalize(image, (height, width))
            # Encode equal masks once, chunk by chunk.
            ((masks, mask_indices),) = unique_masks([logits])
            num_bytes = bytes_per_crop([image], self.clip.image_size, self.clip.activation_bytes(image.device))
            chunk_size = self.execution.crops_per_chunk(num_bytes, image.device)
            chunks = []
            for chunk in masks.split(chunk_size):
                # Crop the padding off.
                binary_masks = mask_probabilities(chunk, image.shape[-2:])[:, :height, :width] > 0.5
                chunks.append(self._encode_masks(normalized[:, :height, :width], binary_masks))
            embeddings.append(torch.cat(chunks)[None, mask_indices])
        return embeddings

    def _encode_masks(self, image: Tensor, masks: Tensor) -> Tensor:
        """Return (n, d) embeddings of masks (n, H, W) bool of a normalized image (3, H, W)."""
        embeddings = image.new_zeros(len(masks), self.clip.embed_dim)
        boxes = _boxes(masks)
        if not boxes:
            return embeddings
        crops, crop_masks = crop_with_masks(image, masks, boxes, self.clip.image_size)
        with self.clip.on(image.device) as network:
            prompts = self._prompts_for(network.visual, image.device)
            crops = crops.to(self.clip.dtype_on(image.device))
            encoded = encode_with_prompts(network.visual, crops, crop_masks, prompts).float()
        embeddings[list(boxes)] = encoded
        return embeddings

    def _prompts_for(self, visual: nn.Module, device: torch.device) -> Tensor:
        """Return the mask prompts on a device, read on first use; ValueError if the encoder cannot take them."""
        if not reads_class_token(visual):
            raise ValueError(
                'CLIPMaskPromptScorer needs a vision transformer of open_clip that reads its class token, not '
                f"{type(visual).__name__}: use type='mmzeg.CLIPCropScorer'"
            )
        if device not in self._prompts:
            prompts = read_mask_prompts(self.mask_prompts)
            check_mask_prompts(prompts, visual, self.mask_prompts)
            self._prompts[device] = prompts.to(device)
        return self._prompts[device]


def crop_with_masks(
    image: Tensor, masks: Tensor, boxes: dict[int, tuple[int, int, int, int]], size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cut masks' boxes out of an image, with the mean color outside the mask.

    Args:
        image (Tensor): (3, H, W), normalized: the mean color is zero.
        masks (Tensor): (n, H, W) bool.
        boxes (dict): Index of a mask -> (x0, y0, x1, y1), the last column and row not included.
        size (Sequence[int]): Height h and width w of the crops.

    Returns:
        tuple[Tensor, Tensor]: Crops (m, 3, h, w) and their masks (m, 1, h, w), 0 or 1, of the m boxes.
    """
    size = tuple(size)
    crops = []
    crop_masks = []
    for index, (x0, y0, x1, y1) in boxes.items():
        mask = masks[index, y0:y1, x0:x1].to(image.dtype)[None, None]
        crop = image[None, :, y0:y1, x0:x1] * mask
        crops.append(F.interpolate(crop, size=size, mode='bicubic', align_corners=False))
        crop_masks.append(F.interpolate(mask, size=size, mode='nearest'))
    return torch.cat(crops), torch.cat(crop_masks)


def _boxes(masks: Tensor) -> dict[int, tuple[int, int, int, int]]:
    """Return the box of every mask (n, H, W) that covers a pixel: index -> (x0, y0, x1, y1), ends not included."""
    columns = masks.any(1).int()
    rows = masks.any(2).int()
    ends = [
        columns.argmax(1),
        rows.argmax(1),
        columns.shape[1] - columns.flip(1).argmax(1),
        rows.shape[1] - rows.flip(1).argmax(1),
        columns.amax(1),
    ]
    # One transfer for all boxes.
    return {index: tuple(box) for index, (*box, covers) in enumerate(torch.stack(ends, 1).tolist()) if covers}
