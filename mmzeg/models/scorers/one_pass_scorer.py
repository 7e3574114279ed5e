"""What the scorers share that run CLIP's image encoder once over the whole picture."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmzeg.models.scorers.clip_scorer import CLIPScorer


class OnePassScorer(CLIPScorer):
    """Looks at the picture once in every size, and takes from it what lies under each mask.

    Args:
        clip, prompts, pruning, merge_iou_thr: See ``CLIPScorer``.
        input_size (int | list[int], optional): Shorter side of the picture as CLIP gets it, in pixels; of several, the
            embeddings are averaged. None: CLIP's own; the aspect ratio is kept where the encoder takes other sizes.
        context (int): Cells of CLIP's map by which a mask is grown on every side. Defaults to 0.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | Sequence[int] | None = None,
        context: int = 0,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        sizes = [input_size] if isinstance(input_size, int) or input_size is None else list(input_size)
        if not sizes or any(size is not None and size < 1 for size in sizes):
            raise ValueError(f'scorer input_size must be 1 pixel or more, got {input_size}')
        if context < 0:
            raise ValueError(f'scorer context must be 0 or more, got {context}')
        super().__init__(clip, prompts, pruning, merge_iou_thr)
        self.sizes, self.context = sizes, context

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """(V, Q, d) embeddings under the masks, in V sizes, for every image."""
        found = []
        for image, logits, (height, width) in zip(images, mask_logits, valid_sizes, strict=True):
            picture = self.normalize(image, (height, width))[None, :, :height, :width]
            rows, columns = (
                max(1, round(valid * side / whole))
                for valid, side, whole in zip((height, width), logits.shape[-2:], image.shape[-2:], strict=True)
            )
            masks = logits[:, :rows, :columns].float().sigmoid()
            with self.clip.on(image.device) as network:
                views = [self._view(network.visual, picture, masks, size) for size in self.sizes]
            found.append(torch.stack(views))
        return found

    def _view(self, visual: nn.Module, picture: Tensor, masks: Tensor, size: int | None) -> Tensor:
        shape = self._input_shape(visual, picture.shape[-2:], size)
        picture = F.interpolate(picture, size=shape, mode='bilinear', align_corners=False, antialias=True)
        return self._encode(visual, picture.to(self.clip.dtype_on(picture.device)), masks).float()

    def _input_shape(self, visual: nn.Module, shape: Sequence[int], size: int | None) -> tuple[int, int]:
        """Height and width of CLIP's input for a picture of a shape, whole cells in both directions."""
        own, cell = self.clip.image_size, self._cell(visual)
        if cell is None:
            if size not in (None, min(own)):
                raise ValueError(f'scorer input_size {size}: this CLIP takes pictures of {own} alone; set it to None')
            return own
        scale = (size or min(own)) / min(shape)
        return tuple(max(1, round(side * scale / cell)) * cell for side in shape)

    def _under(self, masks: Tensor, grid: Sequence[int]) -> Tensor:
        """(Q, h, w) bool at CLIP's map: cells whose mean is above 0.5, or else the one where it is highest."""
        shares = F.adaptive_avg_pool2d(masks[None], tuple(grid))[0]
        inside = shares > 0.5
        best = shares.flatten(1).argmax(1, keepdim=True)
        alone = torch.zeros_like(inside).flatten(1).scatter_(1, best, True).view_as(inside)
        inside = torch.where(inside.flatten(1).any(1)[:, None, None], inside, alone)
        if not self.context:
            return inside
        grown = F.max_pool2d(inside[None].float(), 2 * self.context + 1, stride=1, padding=self.context)[0]
        return grown > 0

    @abstractmethod
    def _cell(self, visual: nn.Module) -> int | None:
        """Pixels of CLIP's input to a cell of its map; None if the input's size is fixed. ValueError: no such model."""

    @abstractmethod
    def _encode(self, visual: nn.Module, picture: Tensor, masks: Tensor) -> Tensor:
        """(Q, d) embeddings of what lies under masks (Q, h, w), in 0..1, of a picture (1, 3, H, W)."""
