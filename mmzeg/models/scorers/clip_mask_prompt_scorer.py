"""CLIP logits from crops in which learned prompts stand in for the background: OVSeg (arXiv 2210.04150)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmzeg.clip.fast_encoders import reads_class_token
from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.models.scorers.crops import bytes_per_crop, mask_probabilities
from mmzeg.models.scorers.mask_prompt_crops import crop_with_masks
from mmzeg.models.scorers.mask_prompts import check_mask_prompts, encode_with_prompts, read_mask_prompts
from mmzeg.models.scorers.unique_masks import masks_to_encode
from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


@MODELS.register_module()
class CLIPMaskPromptScorer(CLIPScorer):
    """Encode one crop per segment, with mask prompts in place of the patches outside the mask.

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
        # Encode equal masks once.
        to_encode = masks_to_encode(mask_logits, self.execution.is_batched(images[0].device))
        for image, (masks, mask_indices), valid_size in zip(images, to_encode, valid_sizes, strict=True):
            height, width = valid_size
            normalized = self.normalize(image, valid_size)[:, :height, :width]
            # Encode chunk by chunk.
            num_bytes = bytes_per_crop([image], self.clip.image_size, self.clip.activation_bytes(image.device))
            chunk_size = self.execution.crops_per_chunk(num_bytes, image.device)
            chunks = [image.new_zeros(0, self.clip.embed_dim)]
            for chunk in masks.split(chunk_size) if len(masks) else ():
                # Crop the padding off.
                binary_masks = mask_probabilities(chunk, image.shape[-2:])[:, :height, :width] > 0.5
                chunks.append(self._encode_masks(normalized, binary_masks))
            embeddings.append(torch.cat(chunks)[None, mask_indices])
        return embeddings

    def _encode_masks(self, image: Tensor, masks: Tensor) -> Tensor:
        """Return (n, d) embeddings of masks (n, H, W) bool of a normalized image (3, H, W)."""
        is_batched = self.execution.is_batched(image.device)
        crops, crop_masks = crop_with_masks(image, masks, self.clip.image_size, is_batched)
        with self.clip.on(image.device) as network:
            prompts = self._prompts_for(network.visual, image.device)
            crops = crops.to(self.clip.dtype_on(image.device))
            embeddings = encode_with_prompts(network.visual, crops, crop_masks, prompts).float()
        is_empty = ~masks.flatten(1).any(1)
        return embeddings.masked_fill(is_empty[:, None], 0)

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
