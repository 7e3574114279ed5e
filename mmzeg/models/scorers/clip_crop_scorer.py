"""CLIP logits from one masked crop per segment: the scorer of the paper (docs/en/method.md#masked-crops)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.models.scorers.crops import CROP_MODES, bytes_per_crop, crop_segments, mask_probabilities
from mmzeg.models.scorers.unique_masks import masks_to_encode
from mmzeg.registry import MODELS


@MODELS.register_module()
class CLIPCropScorer(CLIPScorer):
    """Encode one masked crop per segment with CLIP's frozen image encoder.

    Args:
        clip, prompts, pruning, merge_iou_thr: See ``CLIPScorer``.
        crop_mode (str | list[str]): ``crop``: the mask's box of the image. ``mask``: the complete image times the mask.
            ``cropmask``: the image times the mask, then the box (published). Embeddings of several modes are averaged.
        mask_dilation (int): Pixels by which a mask is dilated on every side before it is cropped. Defaults to 0.

    Raises:
        ValueError: An unknown crop mode, or a dilation out of range.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        crop_mode: str | Sequence[str] = 'cropmask',
        mask_dilation: int = 0,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        crop_modes = [crop_mode] if isinstance(crop_mode, str) else list(crop_mode)
        if not crop_modes:
            raise ValueError(f'scorer crop_mode is an empty list: use one or more of {", ".join(CROP_MODES)}')
        unknown = [mode for mode in crop_modes if mode not in CROP_MODES]
        if unknown:
            raise ValueError(f'scorer crop_mode {unknown[0]!r} is unknown: use one or more of {", ".join(CROP_MODES)}')
        if mask_dilation < 0:
            raise ValueError(f'scorer mask_dilation must be 0 pixels or more, got {mask_dilation}')
        super().__init__(clip, prompts, pruning, merge_iou_thr)
        self.crop_modes = crop_modes
        self.mask_dilation = mask_dilation

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return (V, Q, d) embeddings of every image's crops, V crop modes.

        A chunk of crops, which may span several images, is cut and encoded together; ``execution`` bounds it.
        """
        images = [self.normalize(image, size) for image, size in zip(images, valid_sizes, strict=True)]
        device = images[0].device
        # Encode equal masks once.
        masks, mask_indices = zip(*masks_to_encode(mask_logits, self.execution.is_batched(device)), strict=True)
        # Encode the crops chunk by chunk.
        num_bytes = bytes_per_crop(images, self.clip.image_size, self.clip.activation_bytes(device))
        chunk_size = self.execution.crops_per_chunk(num_bytes, device)
        chunks = [self._encode_chunk(images, chunk) for chunk in _chunks(masks, chunk_size)]
        none = [] if chunks else [images[0].new_zeros(len(self.crop_modes), 0, self.clip.embed_dim)]
        embeddings = torch.cat(chunks + none, 1)
        # Hand each query the embedding of its mask.
        per_image = embeddings.split([len(image_masks) for image_masks in masks], 1)
        return [image_embeddings[:, indices] for image_embeddings, indices in zip(per_image, mask_indices, strict=True)]

    def _encode_chunk(self, images: Sequence[Tensor], chunk: list[tuple[int, Tensor]]) -> Tensor:
        """Return (V, n, d) embeddings of n masks; ``chunk`` lists image indices with mask logits (m, h, w)."""
        size = self.clip.image_size
        image_masks = []
        for index, mask_logits in chunk:
            masks = mask_probabilities(mask_logits, images[index].shape[-2:])
            if self.mask_dilation:
                window = 2 * self.mask_dilation + 1
                masks = F.max_pool2d(masks, window, stride=1, padding=self.mask_dilation)
            image_masks.append((images[index], masks))
        is_batched = self.execution.is_batched(images[0].device)
        embeddings = []
        for crop_mode in self.crop_modes:
            crops = [crop_segments(image, masks, size, crop_mode, is_batched) for image, masks in image_masks]
            embeddings.append(self.clip.encode_image(torch.cat(crops)))
        return torch.stack(embeddings)


def _chunks(mask_logits: Sequence[Tensor], size: int) -> Iterator[list[tuple[int, Tensor]]]:
    """Yield ``size`` masks at a time, in order, as a list of image indices with some of that image's mask logits."""
    chunk = []
    free = size
    for index, masks in enumerate(mask_logits):
        while len(masks):
            selected = masks[:free]
            masks = masks[free:]
            chunk.append((index, selected))
            free -= len(selected)
            if not free:
                yield chunk
                chunk = []
                free = size
    if chunk:
        yield chunk
