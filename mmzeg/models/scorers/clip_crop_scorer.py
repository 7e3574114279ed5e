"""CLIP's opinion of every segment, from one sub-image a query (reference "Sub-images for CLIP")."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.models.scorers.crops import CROP_MODES, crop_segments, mask_probabilities
from mmzeg.registry import MODELS

# Few enough sub-images that what a layer of CLIP makes of them stays in a CPU's cache; enough to fill a GPU.
CPU_CHUNK, GPU_CHUNK = 6, 32


@MODELS.register_module()
class CLIPCropScorer(CLIPScorer):
    """Cuts a sub-image per query and asks CLIP's frozen image encoder what it shows.

    Args:
        clip, prompts, pruning, merge_iou_thr: See ``CLIPScorer``.
        style (str | list[str]): ``crop``: the mask's box of the image; ``mask``: the whole image times the mask;
            ``cropmask``: the image times the mask, then the box (published). Of several, the embeddings are averaged.
        grow (int): Pixels by which a mask is grown on every side before it is cut. Defaults to 0.
        chunk (int, optional): Masks brought up, cut and passed through CLIP at once, of one image or several; bounds
            memory. None: what fits the caches of a CPU, or fills a GPU.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        style: str | Sequence[str] = 'cropmask',
        grow: int = 0,
        chunk: int | None = None,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        styles = [style] if isinstance(style, str) else list(style)
        strangers = [name for name in styles if name not in CROP_MODES]
        if strangers or not styles:
            wrong = repr(strangers[0]) if strangers else 'list of none'
            raise ValueError(f'sub-image style {wrong} is unknown: use one or more of {", ".join(CROP_MODES)}')
        if chunk is not None and chunk < 1:
            raise ValueError(f'scorer chunk must be 1 or more, got {chunk}')
        if grow < 0:
            raise ValueError(f'scorer grow must be 0 pixels or more, got {grow}')
        super().__init__(clip, prompts, pruning, merge_iou_thr)
        self.styles, self.grow, self.chunk = styles, grow, chunk

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """(S, Q, d) embeddings of the sub-images of S styles, for every image; sub-images of several share chunks."""
        images = [self.normalize(image, size) for image, size in zip(images, valid_sizes, strict=True)]
        places, shown = zip(*(_distinct(masks) for masks in mask_logits), strict=True)
        size = self.chunk or (CPU_CHUNK if images[0].device.type == 'cpu' else GPU_CHUNK)
        input_size = self.clip.image_size
        found = torch.cat([self._embed(images, chunk, input_size) for chunk in _chunks(shown, size)], 1)
        parts = found.split([len(masks) for masks in shown], 1)
        return [part[:, place] for part, place in zip(parts, places, strict=True)]

    def _embed(self, images: Sequence[Tensor], chunk: list[tuple[int, Tensor]], size: tuple[int, int]) -> Tensor:
        parts = []
        for index, mask_logits in chunk:
            masks = mask_probabilities(mask_logits, images[index].shape[-2:])
            if self.grow:
                masks = F.max_pool2d(masks, 2 * self.grow + 1, stride=1, padding=self.grow)
            parts.append((images[index], masks))
        return torch.stack(
            [
                self.clip.encode_image(torch.cat([crop_segments(image, masks, size, style) for image, masks in parts]))
                for style in self.styles
            ]
        )


def _distinct(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of equal masks the first one alone, of all empty ones too, as they have one sub-image; and each query's place."""
    masks = mask_logits.flatten(1)
    masks = masks.where(masks.amax(1, keepdim=True) > 0, -masks.new_ones(()))
    _, group = masks.unique(dim=0, return_inverse=True)
    numbers = torch.arange(len(masks), device=masks.device)
    first = torch.full_like(numbers, len(masks)).scatter_reduce(0, group, numbers, 'amin')[group]
    shown = first == numbers
    return (shown.cumsum(0) - 1)[first], mask_logits[shown]


def _chunks(mask_logits: Sequence[Tensor], size: int) -> Iterator[list[tuple[int, Tensor]]]:
    """``size`` masks at a time, in order: parts of one image's or several, with the image's number."""
    chunk, free = [], size
    for index, masks in enumerate(mask_logits):
        while len(masks):
            part, masks = masks[:free], masks[free:]
            chunk.append((index, part))
            free -= len(part)
            if not free:
                yield chunk
                chunk, free = [], size
    if chunk:
        yield chunk
