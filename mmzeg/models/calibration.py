"""Calibration: lower every seen class by gamma (docs/en/method.md#calibration).

Gamma is a field of ``ScoreFusion``, whose scores are not calibrated. The offset is subtracted where the classes of a
pixel are compared: in ``ZegFormer.encode_decode``, ``semantic_map``, ``label_map`` and ``GuaranteedPruning``.
"""

import torch
from torch import Tensor


def class_offset(seen: Tensor, gamma: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return what calibration subtracts from each class of a semantic map.

    Args:
        seen (Tensor): (C,) bool, which classes are seen.
        gamma (float): Calibration, >= 0.
        dtype (torch.dtype): Type of the result. Defaults to float32.

    Returns:
        Tensor: (C,), gamma for a seen class and 0 for an unseen one.
    """
    return gamma * seen.to(dtype)


def calibrate(semantic_map: Tensor, offset: Tensor) -> Tensor:
    """Subtract a class offset (C,), see ``class_offset``, from a semantic map (..., C, H, W)."""
    return semantic_map - offset.to(semantic_map.dtype)[:, None, None]


def calibrated_labels(
    seen_scores: Tensor, seen_labels: Tensor, unseen_scores: Tensor, unseen_labels: Tensor, gamma: float
) -> Tensor:
    """Return the labels after calibration, from the best seen and the best unseen class of every pixel.

    Calibration lowers all seen classes alike, so the best seen class stays the best seen class. The argmax for another
    gamma is therefore one comparison per pixel.

    Args:
        seen_scores, unseen_scores (Tensor): (...) highest uncalibrated score among the seen, and the unseen, classes.
        seen_labels, unseen_labels (Tensor): (...) class indices of these scores.
        gamma (float): Calibration, >= 0.
    """
    return torch.where(unseen_scores > seen_scores - gamma, unseen_labels, seen_labels)
