"""Base class of the scorers that run CLIP's image encoder once per image (docs/en/method.md#one-pass-scorers)."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.models.scorers.grid_masks import MASK_RESIZES, dilate_cells, masks_on_grid
from mmzeg.models.scorers.position_embeddings import check_position_resize
from mmzeg.models.scorers.pruning import GuaranteedPruning
from mmzeg.vocabulary import Vocabulary

# Takes rows and columns of CLIP's map; returns which cells lie under each mask (Q, rows, columns), bool.
MasksOnGrid = Callable[[Sequence[int]], Tensor]


class OnePassScorer(CLIPScorer):
    """Encode an image once per input size, and pool an embedding under each mask.

    A subclass names its values of ``empty_mask`` in ``EMPTY_MASKS``.

    Args:
        clip, prompts, pruning, merge_iou_thr, logit_scale: See ``CLIPScorer``.
        input_size (int | tuple | str | list, optional): Size of CLIP's input, in pixels. A number: the shorter side;
            the aspect ratio is kept, both sides are rounded to whole cells. A tuple: height and width, to which the
            image is squashed. ``image``: the image is not resized. None: CLIP's own size as the shorter side. A list of
            these: embeddings of several sizes are averaged.
        mask_dilation (int): Cells of CLIP's map (patches of a transformer) by which a mask is dilated on every side.
        antialias (bool): Whether the image is resized with antialiasing.
        mask_resize (str): How masks come to the cells: ``area``, ``bilinear`` or ``bilinear_logits``, see
            ``grid_masks.masks_on_grid``.
        position_resize (dict): How position embeddings are resized to the input: ``mode``, ``align_corners`` and
            ``antialias``, as of ``torch.nn.functional.interpolate``.
        empty_mask (str): What a mask that covers no cell sees; ``best_cell``: the cell where its value is the highest.

    Raises:
        ValueError: A field out of range, an unknown value, or ``GuaranteedPruning``, which saves nothing in one pass.
    """

    EMPTY_MASKS: tuple[str, ...] = ('best_cell',)

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str],
        input_size: int | tuple[int, int] | str | list | None,
        mask_dilation: int,
        antialias: bool,
        mask_resize: str,
        position_resize: Mapping[str, object],
        empty_mask: str,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
        logit_scale: float | None = None,
    ) -> None:
        input_sizes = list(input_size) if isinstance(input_size, list) else [input_size]
        if not input_sizes or not all(map(_is_input_size, input_sizes)):
            raise ValueError(
                f"scorer input_size must be a number of pixels, (height, width), 'image' or None, got {input_size!r}"
            )
        if mask_dilation < 0:
            raise ValueError(f'scorer mask_dilation must be 0 or more, got {mask_dilation}')
        if mask_resize not in MASK_RESIZES:
            raise ValueError(f'scorer mask_resize {mask_resize!r} is unknown: use one of {", ".join(MASK_RESIZES)}')
        if empty_mask not in self.EMPTY_MASKS:
            raise ValueError(f'scorer empty_mask {empty_mask!r} is unknown: use one of {", ".join(self.EMPTY_MASKS)}')
        super().__init__(clip, prompts, pruning, merge_iou_thr, logit_scale)
        if isinstance(self.pruning, GuaranteedPruning):
            raise ValueError(
                f'{type(self).__name__} encodes the image in one pass for all segments, so GuaranteedPruning saves '
                'nothing and would repeat that pass or its pooling in every round: set scorer pruning=None'
            )
        self.input_sizes = input_sizes
        self.mask_dilation = mask_dilation
        self.antialias = antialias
        self.mask_resize = mask_resize
        self.position_resize = check_position_resize(position_resize)
        self.empty_mask = empty_mask

    def prepare(self, vocabulary: Vocabulary, device: str | torch.device) -> None:
        """Load CLIP and compute the text embeddings; raise ValueError if the scorer cannot use its image encoder."""
        super().prepare(vocabulary, device)
        with self.clip.on(torch.device(device)) as network:
            self._cell_size(network.visual)

    def encode_batch(
        self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return (V, Q, d) embeddings under the masks, in V input sizes, for every image."""
        valid_images = []
        on_grids = []
        for image, logits, (height, width) in zip(images, mask_logits, valid_sizes, strict=True):
            # Crop the padding off the image; ``masks_on_grid`` crops it off the masks.
            valid_images.append(self.normalize(image, (height, width))[None, :, :height, :width])
            on_grids.append(partial(self._masks_on_grid, logits, image.shape[-2:], (height, width)))
        with self.clip.on(images[0].device) as network:
            per_size = [self._encode_at(network.visual, valid_images, on_grids, size) for size in self.input_sizes]
        return [torch.stack(embeddings) for embeddings in zip(*per_size, strict=True)]

    def _encode_at(
        self,
        visual: nn.Module,
        images: Sequence[Tensor],
        on_grids: Sequence[MasksOnGrid],
        size: int | tuple[int, int] | str | None,
    ) -> list[Tensor]:
        """Return (Q, d) embeddings at one input size, for every image (1, 3, H, W)."""
        inputs = [self._resize(visual, image, size) for image in images]
        # In batched execution, inputs of one shape go through CLIP together.
        is_batched = self.execution.is_batched(images[0].device)
        groups: dict[object, list[int]] = {}
        for index, image in enumerate(inputs):
            groups.setdefault(image.shape if is_batched else index, []).append(index)
        embeddings = {}
        for indices in groups.values():
            batch = torch.cat([inputs[index] for index in indices]) if len(indices) > 1 else inputs[indices[0]]
            encoded = self._encode_masks(visual, batch, [on_grids[index] for index in indices])
            embeddings.update(zip(indices, encoded, strict=True))
        return [embeddings[index].float() for index in range(len(images))]

    def _resize(self, visual: nn.Module, image: Tensor, size: int | tuple[int, int] | str | None) -> Tensor:
        """Return CLIP's input (1, 3, h, w) for an image (1, 3, H, W), in CLIP's precision."""
        shape = self._input_shape(visual, image.shape[-2:], size)
        if shape != tuple(image.shape[-2:]):
            image = F.interpolate(image, size=shape, mode='bilinear', align_corners=False, antialias=self.antialias)
        return image.to(self.clip.dtype_on(image.device))

    def _input_shape(
        self, visual: nn.Module, shape: Sequence[int], size: int | tuple[int, int] | str | None
    ) -> tuple[int, int]:
        """Return height and width of CLIP's input for an image of a shape."""
        clip_size = self.clip.image_size
        cell = self._cell_size(visual)
        if cell is None:
            if size not in (None, min(clip_size), clip_size):
                raise ValueError(f'scorer input_size {size}: this CLIP takes only {clip_size}; set it to None')
            return clip_size
        if size == 'image':
            return tuple(shape)
        if isinstance(size, tuple):
            return size
        # Keep the aspect ratio, in whole cells.
        scale = (size or min(clip_size)) / min(shape)
        return tuple(max(1, round(side * scale / cell)) * cell for side in shape)

    def _masks_on_grid(
        self, mask_logits: Tensor, image_size: Sequence[int], valid_size: tuple[int, int], grid: Sequence[int]
    ) -> Tensor:
        """Return which cells of CLIP's map lie under each mask; see ``grid_masks.masks_on_grid``."""
        keep_best_cell = self.empty_mask == 'best_cell'
        on_grid = masks_on_grid(mask_logits, image_size, valid_size, grid, self.mask_resize, keep_best_cell)
        return dilate_cells(on_grid, self.mask_dilation)

    @abstractmethod
    def _cell_size(self, visual: nn.Module) -> int | None:
        """Return the input pixels per cell of CLIP's map; None if the input size is fixed.

        Raises:
            ValueError: The scorer does not work with this image encoder.
        """

    @abstractmethod
    def _encode_masks(self, visual: nn.Module, images: Tensor, on_grids: Sequence[MasksOnGrid]) -> list[Tensor]:
        """Return (Q, d) embeddings under the masks that its ``on_grid`` gives, for every image of (B, 3, H, W)."""


def _is_input_size(size: object) -> bool:
    """Return whether a value is a shorter side, a height and width, ``image`` or None."""
    if size is None or size == 'image':
        return True
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    return all(isinstance(side, int) and side >= 1 for side in sides)
