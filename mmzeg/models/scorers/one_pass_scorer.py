"""Base class of the scorers that run CLIP's image encoder once per image (docs/en/method.md#one-pass-scorers)."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmzeg.models.scorers.clip_scorer import CLIPScorer


class OnePassScorer(CLIPScorer):
    """Encode an image once per input size, and pool an embedding under each mask.

    Args:
        clip, prompts, pruning, merge_iou_thr: See ``CLIPScorer``.
        input_size (int | list[int], optional): Shorter side of CLIP's input, in pixels. Embeddings of several sizes are
            averaged. Defaults to CLIP's own size. The aspect ratio is kept where the encoder takes other sizes.
        mask_dilation (int): Cells of CLIP's feature map (patches of a transformer) by which a mask is dilated on every
            side. Defaults to 0.

    Raises:
        ValueError: A size or a dilation out of range.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | Sequence[int] | None = None,
        mask_dilation: int = 0,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        input_sizes = [input_size] if isinstance(input_size, int) or input_size is None else list(input_size)
        if not input_sizes or any(size is not None and size < 1 for size in input_sizes):
            raise ValueError(f'scorer input_size must be 1 pixel or more, got {input_size}')
        if mask_dilation < 0:
            raise ValueError(f'scorer mask_dilation must be 0 or more, got {mask_dilation}')
        super().__init__(clip, prompts, pruning, merge_iou_thr)
        self.input_sizes = input_sizes
        self.mask_dilation = mask_dilation

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return (V, Q, d) embeddings under the masks, in V input sizes, for every image."""
        embeddings = []
        for image, logits, (height, width) in zip(images, mask_logits, valid_sizes, strict=True):
            # Crop the padding off the image and off its masks.
            valid_image = self.normalize(image, (height, width))[None, :, :height, :width]
            rows = max(1, round(height * logits.shape[-2] / image.shape[-2]))
            columns = max(1, round(width * logits.shape[-1] / image.shape[-1]))
            masks = logits[:, :rows, :columns].float().sigmoid()
            with self.clip.on(image.device) as network:
                per_size = [self._encode_at(network.visual, valid_image, masks, size) for size in self.input_sizes]
            embeddings.append(torch.stack(per_size))
        return embeddings

    def _encode_at(self, visual: nn.Module, image: Tensor, masks: Tensor, size: int | None) -> Tensor:
        """Return (Q, d) embeddings at one input size, of an image (1, 3, H, W) and masks (Q, h, w) in 0..1."""
        shape = self._input_shape(visual, image.shape[-2:], size)
        resized = F.interpolate(image, size=shape, mode='bilinear', align_corners=False, antialias=True)
        return self._encode_masks(visual, resized.to(self.clip.dtype_on(resized.device)), masks).float()

    def _input_shape(self, visual: nn.Module, shape: Sequence[int], size: int | None) -> tuple[int, int]:
        """Return height and width of CLIP's input for an image of a shape: whole cells in both directions."""
        clip_size = self.clip.image_size
        cell = self._cell_size(visual)
        if cell is None:
            if size not in (None, min(clip_size)):
                raise ValueError(f'scorer input_size {size}: this CLIP takes only {clip_size}; set it to None')
            return clip_size
        scale = (size or min(clip_size)) / min(shape)
        return tuple(max(1, round(side * scale / cell)) * cell for side in shape)

    def _masks_on_grid(self, masks: Tensor, grid: Sequence[int]) -> Tensor:
        """Return masks (Q, h, w) on CLIP's map as bool: cells whose mean is above 0.5, else the cell of the maximum."""
        means = F.adaptive_avg_pool2d(masks[None], tuple(grid))[0]
        on_grid = means > 0.5
        # A mask smaller than a cell keeps its best cell.
        best_cell = means.flatten(1).argmax(1, keepdim=True)
        fallback = torch.zeros_like(on_grid).flatten(1).scatter_(1, best_cell, True).view_as(on_grid)
        has_cells = on_grid.flatten(1).any(1)[:, None, None]
        on_grid = torch.where(has_cells, on_grid, fallback)
        if not self.mask_dilation:
            return on_grid
        window = 2 * self.mask_dilation + 1
        return F.max_pool2d(on_grid[None].float(), window, stride=1, padding=self.mask_dilation)[0] > 0

    @abstractmethod
    def _cell_size(self, visual: nn.Module) -> int | None:
        """Return the input pixels per cell of CLIP's map; None if the input size is fixed.

        Raises:
            ValueError: The scorer does not work with this image encoder.
        """

    @abstractmethod
    def _encode_masks(self, visual: nn.Module, image: Tensor, masks: Tensor) -> Tensor:
        """Return (Q, d) embeddings under masks (Q, h, w), in 0..1, of an image (1, 3, H, W)."""
