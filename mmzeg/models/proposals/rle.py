"""Decode the run-length encoding of COCO, and refuse a corrupted one.

pycocotools returns uninitialized memory where the runs do not fill the mask.
"""

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask


def decode_rle(rle: Mapping) -> np.ndarray:
    """Decode a COCO RLE to a mask (H, W) bool.

    Args:
        rle (Mapping): ``size``, height and width in pixels, and ``counts``: the lengths of the runs as a list, or
            compressed to a string.

    Raises:
        ValueError: Not an RLE, or its runs do not fill the mask.
    """
    size = rle.get('size') if isinstance(rle, Mapping) else None
    if not (
        isinstance(size, (list, tuple)) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    ):
        raise ValueError('not a COCO RLE, dict(size=[height, width], counts=...)')
    height, width = size
    counts = rle.get('counts')
    runs = _uncompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError('the counts of its RLE are corrupted')
    if sum(runs) != height * width:
        raise ValueError(f'the counts of its RLE fill {sum(runs)} pixels of {height * width}')
    if not isinstance(counts, str):
        rle = coco_mask.frPyObjects(dict(size=[height, width], counts=runs), height, width)
    return coco_mask.decode(dict(rle)).astype(bool)


def _uncompress(counts: str) -> list[int]:
    """Return the lengths of the runs of a compressed RLE; a negative one if it is corrupted."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            return [-1]
        value |= (code & 31) << shift
        shift += 5
        # Bit 5 says that the number goes on, bit 4 of its last character is its sign.
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        # From the fourth run on, the difference from the run before the last is stored.
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs if not shift else [-1]
