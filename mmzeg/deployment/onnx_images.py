"""Images for the ONNX runner: resize and pad them as the exported config's test pipeline does.

``tools/deployment/export_onnx.py`` copies this file into the exported folder, so it imports neither mmzeg nor PyTorch.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def resize_image(image: np.ndarray, step: dict) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 by one step of ``settings.json``.

    Raises:
        ImportError: The step needs OpenCV, which is not installed.
    """
    width, height = resized_size(image.shape[1::-1], step)
    if step['backend'] == 'pillow':
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    try:
        import cv2
    except ImportError as error:
        raise ImportError('the exported config resizes by OpenCV: pip install opencv-python-headless') from error
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def resized_size(size: Sequence[int], step: dict) -> tuple[int, int]:
    """Return the width and height that a resize step gives an image.

    Args:
        size (Sequence[int]): Width and height of the image.
        step (dict): ``kind`` ``fixed``: to ``scale`` (width, height). ``keep_ratio``: as large as fits into ``scale``.
            ``shortest_edge``: the shorter side becomes ``scale``, the longer one at most ``max_size``.
    """
    width, height = size
    scale = step['scale']
    if step['kind'] == 'fixed':
        return tuple(scale)
    if step['kind'] == 'keep_ratio':
        factor = min(max(scale) / max(size), min(scale) / min(size))
        return int(width * factor + 0.5), int(height * factor + 0.5)
    # In the order of detectron2's products, which decides how a half is rounded
    factor = scale / min(size)
    sides = (scale, factor * height) if width <= height else (factor * width, scale)
    if max(sides) > step['max_size']:
        factor = step['max_size'] / max(sides)
        sides = tuple(side * factor for side in sides)
    return int(sides[0] + 0.5), int(sides[1] + 0.5)


def padded_size(size: Sequence[int], pad: dict) -> tuple[int, int]:
    """Return the height and width of the network input for an image of this height and width.

    Args:
        size (Sequence[int]): Height and width of the resized image.
        pad (dict): ``size``, the least height and width, or ``divisor``, of which both are multiples; either may be
            None.
    """
    if pad['size']:
        return tuple(max(side, minimum) for side, minimum in zip(size, pad['size'], strict=True))
    divisor = pad['divisor'] or 1
    return tuple(-(-side // divisor) * divisor for side in size)


def pad_image(image: np.ndarray, size: Sequence[int], value: float = 0.0) -> np.ndarray:
    """Pad an image (h, w, 3) below and at the right.

    Args:
        image (np.ndarray): (h, w, 3).
        size (Sequence[int]): Height H and width W of the result.
        value (float): Of the padding. Defaults to 0.

    Returns:
        np.ndarray: (3, H, W).
    """
    height, width = image.shape[:2]
    margins = [(0, 0), (0, size[0] - height), (0, size[1] - width)]
    return np.pad(image.transpose(2, 0, 1), margins, constant_values=value)
