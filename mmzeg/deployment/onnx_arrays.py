"""What ZegFormer computes between its graphs, in NumPy: masks, crops, score fusion and calibration.

Every function is the counterpart of one in ``mmzeg.models``. ``tools/deployment/export_onnx.py`` copies this file into
the exported folder, so it imports nothing but NumPy.
"""

from collections.abc import Sequence

import numpy as np


def resize(
    maps: np.ndarray,
    size: Sequence[int],
    rows: range | None = None,
    full_height: int | None = None,
    first_row: int = 0,
) -> np.ndarray:
    """Resize maps bilinearly, as ``F.interpolate`` does with ``align_corners=False``.

    Args:
        maps (np.ndarray): (N, h, w) float32.
        size (Sequence[int]): Height H and width W of the complete result.
        rows (range, optional): Compute only these n rows of the result. Defaults to all.
        full_height (int, optional): Height of the complete input, if ``maps`` holds only some of its rows.
        first_row (int): Row of the complete input that is row 0 of ``maps``.

    Returns:
        np.ndarray: (N, n, W) float32.
    """
    low_row, high_row, row_weight = _bilinear_weights(full_height or maps.shape[1], size[0], rows)
    low_column, high_column, column_weight = _bilinear_weights(maps.shape[2], size[1])
    resized = np.empty((len(maps), len(low_row), size[1]), np.float32)
    # Map by map, in place: the intermediate values of one map stay in the CPU's caches.
    for source, target in zip(maps, resized, strict=True):
        # Interpolate between rows
        blended = source[low_row - first_row]
        blended += (source[high_row - first_row] - blended) * row_weight[:, None]
        # Interpolate between columns
        np.take(blended, low_column, 1, out=target, mode='clip')
        target += (np.take(blended, high_column, 1) - target) * column_weight
    return resized


def _bilinear_weights(
    in_size: int, out_size: int, indices: range | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for output positions along one axis, both neighbouring input positions and the weight of the second.

    Args:
        in_size, out_size (int): Lengths of the axis.
        indices (range, optional): Output positions. Defaults to all.
    """
    outputs = np.arange(out_size, dtype=np.float32) if indices is None else np.array(indices, np.float32)
    position = np.maximum((outputs + np.float32(0.5)) * np.float32(in_size / out_size) - np.float32(0.5), 0)
    low = np.minimum(position.astype(int), in_size - 1)
    high = np.minimum(low + 1, in_size - 1)
    return low, high, position - low.astype(np.float32)


def mask_probabilities(mask_logits: np.ndarray, size: Sequence[int], rows: range | None = None) -> np.ndarray:
    """Return mask probabilities (Q, n, W) in 0..1: mask logits (Q, h, w) resized to ``size``, then sigmoid.

    Args:
        mask_logits (np.ndarray): (Q, h, w).
        size (Sequence[int]): Height H and width W of the complete result.
        rows (range, optional): Compute only these n rows of the result. Defaults to all.
    """
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
    """Return some rows of the mask probabilities at the size of the original image.

    Args:
        mask_logits (np.ndarray): (Q, h, w).
        padded (Sequence[int]): Height and width of the padded network input.
        valid (Sequence[int]): Height and width of the resized image in it, without the padding.
        original (Sequence[int]): Height H and width W of the original image.
        rows (range): The n rows of the original image.

    Returns:
        np.ndarray: (Q, n, W) in 0..1.
    """
    # Rows of the resized image that the requested rows are interpolated from
    low_row, high_row, _ = _bilinear_weights(valid[0], original[0], rows)
    input_rows = range(low_row[0], high_row[-1] + 1)
    masks = mask_probabilities(mask_logits, padded, input_rows)[..., : valid[1]]
    return resize(masks, original, rows, full_height=valid[0], first_row=input_rows.start)


def dilate(masks: np.ndarray, pixels: int) -> np.ndarray:
    """Dilate masks (N, H, W) by a number of pixels on every side: the maximum of a square window."""
    for axis in (1, 2):
        margins = [(pixels, pixels) if axis == other else (0, 0) for other in range(3)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(masks, margins), 2 * pixels + 1, axis)
        masks = windows.max(-1)
    return masks


def unique_masks(mask_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find queries with equal masks, so that their crop is encoded once. All empty masks count as equal.

    Args:
        mask_logits (np.ndarray): (Q, h, w).

    Returns:
        tuple[np.ndarray, np.ndarray]: (U,) the first query of every different mask, ascending, and (Q,) indices into
        them.
    """
    first_of: dict[bytes, int] = {}
    keys = [mask.tobytes() if mask.max() > 0 else b'' for mask in mask_logits]
    first = [first_of.setdefault(key, query) for query, key in enumerate(keys)]
    unique = np.unique(first)
    return unique, np.searchsorted(unique, first)


def merge_similar_masks(no_object_logits: np.ndarray, mask_logits: np.ndarray, iou_thr: float) -> np.ndarray:
    """Replace near-duplicate masks by their weighted mean; see ``mmzeg.models.scorers.mask_merging``.

    Args:
        no_object_logits (np.ndarray): (Q,).
        mask_logits (np.ndarray): (Q, h, w).
        iou_thr (float): Masks with at least this IoU are merged, in (0, 1].

    Returns:
        np.ndarray: (Q, h, w) mask logits.
    """
    # Compare all masks, most confident query first
    order = no_object_logits.argsort(kind='stable')
    masks = np.float32(mask_logits[order] > 0).reshape(len(order), -1)
    intersection = masks @ masks.T
    area = masks.sum(1)
    similar = intersection >= iou_thr * np.maximum(area[:, None] + area - intersection, 1)
    # Group each mask with the first similar leader
    groups: dict[int, list[int]] = {}
    for rank, row in enumerate(similar):
        leader = next((leader for leader in groups if row[leader]), rank)
        groups.setdefault(leader, []).append(rank)
    # Average each group
    merged = mask_logits.copy()
    for ranks in groups.values():
        if len(ranks) == 1:
            continue
        group = order[ranks]
        weights = _sigmoid(-no_object_logits[group])
        mean = np.tensordot(weights / weights.sum(), _sigmoid(mask_logits[group]), 1).clip(1e-6, 1 - 1e-6)
        merged[group] = np.log(mean / (1 - mean))
    return merged


def crop_segments(image: np.ndarray, masks: np.ndarray, size: Sequence[int], crop_mode: str) -> np.ndarray:
    """Cut the crop of every segment for CLIP; see ``mmzeg.models.scorers.crops.crop_segments``.

    Args:
        image (np.ndarray): (3, H, W) float32, normalized; its padding is zero.
        masks (np.ndarray): (N, H, W) in 0..1.
        size (Sequence[int]): Height h and width w of CLIP's input.
        crop_mode (str): ``crop``, ``mask`` or ``cropmask``.

    Returns:
        np.ndarray: (N, 3, h, w).
    """
    if crop_mode == 'mask':
        return resize(image, size) * (resize(masks, size) > 0.5)[:, None]
    return np.stack([_crop_box(image, mask, size, masked=crop_mode == 'cropmask') for mask in masks > 0.5])


def _crop_box(image: np.ndarray, mask: np.ndarray, size: Sequence[int], masked: bool) -> np.ndarray:
    """Cut the box of a mask (H, W) out of an image (3, H, W), by RoIAlign as two matrix products."""
    # Find the box
    height, width = mask.shape
    x0, x1 = _first_and_last(mask.any(0))
    y0, y1 = _first_and_last(mask.any(1))
    if (x1 - x0) * (y1 - y0) == 0:
        # A box without area stands for the full padded image, as in the released code.
        x0, y0, x1, y1 = 0, 0, width, height
    # RoIAlign's first samples lie half a pixel before the box.
    rows = slice(max(y0 - 1, 0), y1 + 1)
    columns = slice(max(x0 - 1, 0), x1 + 1)
    crop = image[:, rows, columns]
    if masked:
        crop = crop * mask[rows, columns]
    # Sample rows and columns
    row_weights = _roi_align_weights(y0, y1, height, size[0])[:, rows]
    column_weights = _roi_align_weights(x0, x1, width, size[1])[:, columns]
    return row_weights @ (crop @ column_weights.T)


def _first_and_last(hits: np.ndarray) -> tuple[int, int]:
    """Return the first and last index of True in (N,), (0, 0) where there is none."""
    indices = np.flatnonzero(hits)
    return (int(indices[0]), int(indices[-1])) if len(indices) else (0, 0)


def _roi_align_weights(start: int, end: int, length: int, out_size: int) -> np.ndarray:
    """Return RoIAlign's weights (out_size, length) along one axis: every bin is the mean of its bilinear samples."""
    samples_per_bin = max(1, -(-(end - start) // out_size))
    num_samples = out_size * samples_per_bin
    step = np.float32((end - start) / out_size / samples_per_bin)
    offsets = (np.arange(num_samples, dtype=np.float32) + np.float32(0.5)) * step
    position = np.clip(np.float32(start - 0.5) + offsets, 0, length - 1)
    # Distribute each sample over its two neighbours
    low = position.astype(int)
    high_weight = position - low.astype(np.float32)
    samples = np.arange(num_samples)
    weights = np.zeros((num_samples, length), np.float32)
    weights[samples, low] = 1 - high_weight
    weights[samples, np.minimum(low + 1, length - 1)] += high_weight
    return weights.reshape(out_size, samples_per_bin, length).mean(1)


def fuse(
    class_logits: np.ndarray,
    clip_logits: np.ndarray | None,
    seen: np.ndarray,
    mode: str,
    lam: float,
    alpha: float,
    beta: float,
) -> np.ndarray:
    """Fuse both scores of every segment and class; see ``mmzeg.ScoreFusion``.

    Args:
        class_logits (np.ndarray): (Q, C + 1), "no object" last.
        clip_logits (np.ndarray, optional): (Q, C) CLIP logits; unused in mode ``seg``.
        seen (np.ndarray): (C,) bool.
        mode (str): ``seg``, ``img``, ``full``, ``unseen`` or ``geometric``.
        lam (float): Weight of the ensemble in modes ``full`` and ``unseen``, in [0, 1].
        alpha, beta (float): CLIP's weight in mode ``geometric``, of seen and of unseen classes, in [0, 1].

    Returns:
        np.ndarray: (Q, C) in 0..1.
    """
    seg_probs = softmax(class_logits)[:, :-1]
    if mode == 'seg':
        return seg_probs
    if mode == 'geometric':
        weights = np.where(seen, np.float32(alpha), np.float32(beta))
        log_scores = (1 - weights) * log_softmax(class_logits[:, :-1]) + weights * log_softmax(clip_logits)
        return softmax(log_scores) * (1 - softmax(class_logits)[:, -1:])
    clip_probs = softmax(np.concatenate([clip_logits, class_logits[:, -1:]], 1))[:, :-1]
    if mode == 'img':
        return clip_probs
    unseen_scores = seg_probs ** (1 - lam) * clip_probs**lam
    if mode == 'unseen' or not seen.any():
        return unseen_scores
    seen_scores = seg_probs**lam * clip_probs[:, seen].mean(1, keepdims=True) ** (1 - lam)
    return np.where(seen, seen_scores, unseen_scores)


def class_offset(seen: np.ndarray, gamma: float) -> np.ndarray:
    """Return what calibration subtracts from every class (C,): gamma for seen ones, 0 for unseen ones.

    Args:
        seen (np.ndarray): (C,) bool.
        gamma (float): Calibration, 0 or more.
    """
    return (gamma * seen).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (Q, C) of logits (Q, C)."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities (Q, C) of logits (Q, C)."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., d) of unit length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):
        return 1 / (1 + np.exp(-x))
