"""Masked crops for CLIP's image encoder (docs/en/method.md#masked-crops)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

CROP_MODES = ('crop', 'mask', 'cropmask')
# Memory for each pixel of the image: a mask of float32; then the binary mask, and the masked image of float32.
MASK_BYTES = 4
CUT_BYTES = 1 + 3 * 4


def crop_segments(
    image: Tensor, masks: Tensor, size: Sequence[int], crop_mode: str, is_batched: bool = False
) -> Tensor:
    """Cut one crop per mask out of an image.

    Args:
        image (Tensor): (3, H, W), normalized; its padding is zero.
        masks (Tensor): (N, H, W) mask probabilities in 0..1.
        size (Sequence[int]): Height h and width w of CLIP's input, in pixels.
        crop_mode (str): ``crop``: the box of the mask. ``mask``: the complete image times the mask. ``cropmask``: the
            image times the mask, then the box.
        is_batched (bool): True: all crops in one operation, whose box coordinates stay on the device; ``cropmask``
            then needs N masked images of full size. False, the default: one crop after the other, each from the pixels
            of its box. Both give the same crops up to rounding.

    Returns:
        Tensor: Crops (N, 3, h, w).
    """
    size = tuple(size)
    if crop_mode == 'mask':
        resized_image = F.interpolate(image[None], size=size, mode='bilinear', align_corners=False)
        resized_masks = F.interpolate(masks[:, None], size=size, mode='bilinear', align_corners=False) > 0.5
        return resized_image * resized_masks
    binary_masks = masks > 0.5
    boxes = mask_boxes(binary_masks)
    if is_batched:
        return _crop_boxes(image, binary_masks if crop_mode == 'cropmask' else None, boxes, size)
    crops = [
        _crop_box(image, mask if crop_mode == 'cropmask' else None, box, size)
        for mask, box in zip(binary_masks, boxes.tolist(), strict=True)
    ]
    return torch.stack(crops)


def mask_probabilities(mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample mask logits (Q, h, w) bilinearly to (Q, H, W) = ``size`` and return probabilities in 0..1."""
    masks = F.interpolate(mask_logits[None].float(), size=tuple(size), mode='bilinear', align_corners=False)[0]
    return masks.sigmoid()


def bytes_per_crop(images: Sequence[Tensor], size: Sequence[int], activation_bytes: int) -> int:
    """Return an estimate of the memory that one crop takes, in bytes: its mask, and then its cutting or its encoding.

    Args:
        images (Sequence[Tensor]): (3, H, W).
        size (Sequence[int]): Height and width of a crop.
        activation_bytes (int): Memory that its encoding takes, see ``mmzeg.CLIP.activation_bytes``.
    """
    num_pixels = max(image.shape[1] * image.shape[2] for image in images)
    # A crop of float32, and its copy in CLIP's precision
    crop_bytes = 2 * 4 * 3 * size[0] * size[1]
    return MASK_BYTES * num_pixels + max(CUT_BYTES * num_pixels, activation_bytes) + crop_bytes


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the boxes (N, 4) of masks (N, H, W): first and last column and row as (x0, y0, x1, y1).

    A mask without area, that is, empty or a single line of pixels, gets the complete padded image (0, 0, W, H), as in
    the released code.
    """
    height, width = masks.shape[-2:]
    columns = masks.any(1)
    rows = masks.any(2)
    x0, x1 = first_and_last(columns)
    y0, y1 = first_and_last(rows)
    has_no_area = ((x1 - x0) * (y1 - y0) == 0) | ~columns.any(1)
    complete_image = (0, 0, width, height)
    sides = zip((x0, y0, x1, y1), complete_image, strict=True)
    return torch.stack([side.masked_fill(has_no_area, value) for side, value in sides], 1)


def first_and_last(is_hit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last index where a row of (N, L) bool is True."""
    is_hit = is_hit.int()
    return is_hit.argmax(1), is_hit.shape[1] - 1 - is_hit.flip(1).argmax(1)


def _crop_boxes(image: Tensor, masks: Tensor | None, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the crops (N, 3, h, w) of boxes (N, 4), as the released code cuts them: by RoIAlign."""
    if masks is None:
        images = image[None]
        indices = boxes.new_zeros(len(boxes), 1)
    else:
        images = image * masks[:, None]
        indices = torch.arange(len(boxes), device=boxes.device)[:, None]
    return roi_align(images, torch.cat([indices, boxes], 1).to(image.dtype), size, sampling_ratio=-1, aligned=True)


def _crop_box(image: Tensor, mask: Tensor | None, box: list[int], size: tuple[int, int]) -> Tensor:
    """Return one crop (3, h, w): RoIAlign (aligned, adaptive sampling) as two matrix products, rows and columns."""
    x0, y0, x1, y1 = box
    height, width = image.shape[-2:]
    # RoIAlign's first sample lies half a pixel before the box.
    rows = slice(max(y0 - 1, 0), y1 + 1)
    columns = slice(max(x0 - 1, 0), x1 + 1)
    pixels = image[:, rows, columns]
    if mask is not None:
        pixels = pixels * mask[rows, columns]
    row_weights = _roi_align_weights(y0, y1, height, size[0], image)[:, rows]
    column_weights = _roi_align_weights(x0, x1, width, size[1], image)[:, columns]
    return row_weights @ (pixels @ column_weights.t())


def _roi_align_weights(start: int, end: int, length: int, num_bins: int, like: Tensor) -> Tensor:
    """Return RoIAlign's weights (num_bins, length) along one axis: a bin is the mean of its bilinear samples."""
    bin_size = (end - start) / num_bins
    samples_per_bin = max(1, -(-(end - start) // num_bins))
    sample_indices = torch.arange(num_bins * samples_per_bin, device=like.device, dtype=like.dtype)
    offsets = (sample_indices + 0.5) * (bin_size / samples_per_bin)
    # Up to half a pixel outside the image, the edge pixel is sampled.
    position = (start - 0.5 + offsets).clamp(0, length - 1).view(num_bins, samples_per_bin)
    low = position.floor().long()
    high = (low + 1).clamp(max=length - 1)
    weight = position - low
    weights = like.new_zeros(num_bins, length).scatter_add_(1, low, (1 - weight) / samples_per_bin)
    return weights.scatter_add_(1, high, weight / samples_per_bin)
