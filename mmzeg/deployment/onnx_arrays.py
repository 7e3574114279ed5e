"""What the model does with masks and pictures between its graphs, in NumPy: the counterparts of PyTorch's functions."""

from collections.abc import Sequence

import numpy as np


def resize(
    maps: np.ndarray, size: Sequence[int], rows: range | None = None, height: int | None = None, first: int = 0
) -> np.ndarray:
    """Maps (N, n, W), as ``F.interpolate`` makes them bilinearly without aligned corners.

    Args:
        maps (np.ndarray): (N, h, w) float32.
        size (Sequence[int]): Height H and width W of the whole result.
        rows (range, optional): The n rows of the result that are wanted. Defaults to all.
        height, first (int): ``maps`` are those rows of maps of this height that begin with ``first``.
    """
    top, bottom, down = _source(height or maps.shape[1], size[0], rows)
    left, right, across = _source(maps.shape[2], size[1])
    found = np.empty((len(maps), len(top), size[1]), np.float32)
    # Map by map, in place: what one map takes stays in the caches.
    for source, target in zip(maps, found, strict=True):
        tall = source[top - first]
        tall += (source[bottom - first] - tall) * down[:, None]
        np.take(tall, left, 1, out=target, mode='clip')
        target += (np.take(tall, right, 1) - target) * across
    return found


def _source(before: int, after: int, wanted: range | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every wanted one of ``after`` places the two of ``before`` that it lies between, and the second's share."""
    places = np.arange(after, dtype=np.float32) if wanted is None else np.array(wanted, np.float32)
    position = np.maximum((places + np.float32(0.5)) * np.float32(before / after) - np.float32(0.5), 0)
    low = np.minimum(position.astype(int), before - 1)
    return low, np.minimum(low + 1, before - 1), position - low.astype(np.float32)


def mask_probabilities(mask_logits: np.ndarray, size: Sequence[int], rows: range | None = None) -> np.ndarray:
    """(Q, n, W) in 0..1: mask logits (Q, h, w) brought up bilinearly to ``size``, then sigmoid; see ``resize``."""
    masks = resize(mask_logits, size, rows)
    with np.errstate(over='ignore'):
        for mask in masks:
            np.exp(-mask, out=mask)
            mask += 1
            np.reciprocal(mask, out=mask)
    return masks


def mask_rows(
    mask_logits: np.ndarray, padded: Sequence[int], valid: Sequence[int], original: Sequence[int], rows: range
) -> np.ndarray:
    """Some rows (Q, n, W) of the masks, in 0..1, at a picture's own size.

    Args:
        mask_logits (np.ndarray): (Q, h, w).
        padded, valid, original (Sequence[int]): Height and width of the padded input, of the picture in it, and of the
            picture itself.
        rows (range): Of ``original``.
    """
    top, bottom, _ = _source(valid[0], original[0], rows)
    needed = range(top[0], bottom[-1] + 1)
    masks = mask_probabilities(mask_logits, padded, needed)[..., : valid[1]]
    return resize(masks, original, rows, height=valid[0], first=needed.start)


def grow(masks: np.ndarray, pixels: int) -> np.ndarray:
    """Masks (N, H, W) grown by so many pixels on every side."""
    for axis in (1, 2):
        sides = [(pixels, pixels) if axis == other else (0, 0) for other in range(3)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(masks, sides), 2 * pixels + 1, axis)
        masks = windows.max(-1)
    return masks


def merge_similar_masks(no_object: np.ndarray, mask_logits: np.ndarray, iou: float) -> np.ndarray:
    """(Q, h, w) mask logits as ``mmzeg.models.scorers.mask_merging.merge_similar_masks`` makes them."""
    order = no_object.argsort(kind='stable')
    inside = np.float32(mask_logits[order] > 0).reshape(len(order), -1)
    common, area = inside @ inside.T, inside.sum(1)
    alike = common >= iou * np.maximum(area[:, None] + area - common, 1)
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(alike):
        groups.setdefault(next((other for other in groups if row[other]), place), []).append(place)
    merged = mask_logits.copy()
    for group in (order[places] for places in groups.values() if len(places) > 1):
        weights = _sigmoid(-no_object[group])
        mean = np.tensordot(weights / weights.sum(), _sigmoid(mask_logits[group]), 1).clip(1e-6, 1 - 1e-6)
        merged[group] = np.log(mean / (1 - mean))
    return merged


def crop_segments(image: np.ndarray, masks: np.ndarray, size: Sequence[int], style: str) -> np.ndarray:
    """Sub-images (N, 3, h, w) for CLIP, as ``mmzeg.models.scorers.crops.crop_segments`` makes them.

    Args:
        image (np.ndarray): (3, H, W) float32, normalised; its padding is zero.
        masks (np.ndarray): (N, H, W) in 0..1.
        size (Sequence[int]): Height h and width w.
        style (str): ``crop``, ``mask`` or ``cropmask``.
    """
    if style == 'mask':
        return resize(image, size) * (resize(masks, size) > 0.5)[:, None]
    return np.stack([_cut(image, mask, size, style == 'cropmask') for mask in masks > 0.5])


def _cut(image: np.ndarray, mask: np.ndarray, size: Sequence[int], alone: bool) -> np.ndarray:
    height, width = mask.shape
    (x0, x1), (y0, y1) = _first_and_last(mask.any(0)), _first_and_last(mask.any(1))
    # A box without area is the whole (padded) picture, as released.
    if (x1 - x0) * (y1 - y0) == 0:
        x0, y0, x1, y1 = 0, 0, width, height
    # RoIAlign's first samples lie half a pixel before the box.
    rows, columns = (slice(max(start - 1, 0), end + 1) for start, end in ((y0, y1), (x0, x1)))
    part = image[:, rows, columns]
    if alone:
        part = part * mask[rows, columns]
    return _sampling(y0, y1, height, size[0])[:, rows] @ (part @ _sampling(x0, x1, width, size[1])[:, columns].T)


def _first_and_last(hits: np.ndarray) -> tuple[int, int]:
    places = np.flatnonzero(hits)
    return (int(places[0]), int(places[-1])) if len(places) else (0, 0)


def _sampling(start: int, end: int, length: int, out: int) -> np.ndarray:
    """(out, length) weights of RoIAlign along one axis: every bin is the mean of its bilinear samples."""
    samples = max(1, -(-(end - start) // out))
    offsets = (np.arange(out * samples, dtype=np.float32) + np.float32(0.5)) * np.float32((end - start) / out / samples)
    position = np.clip(np.float32(start - 0.5) + offsets, 0, length - 1)
    low = position.astype(int)
    share, places = position - low.astype(np.float32), np.arange(out * samples)
    weights = np.zeros((out * samples, length), np.float32)
    weights[places, low] = 1 - share
    weights[places, np.minimum(low + 1, length - 1)] += share
    return weights.reshape(out, samples, length).mean(1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):
        return 1 / (1 + np.exp(-x))
