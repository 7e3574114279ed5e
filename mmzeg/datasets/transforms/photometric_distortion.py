"""Random brightness, contrast, saturation and hue by look-up tables."""

import cv2
import mmcv
import numpy as np
from mmseg.datasets.transforms import PhotoMetricDistortion as MMSegPhotoMetricDistortion
from numpy import random

from mmzeg.registry import TRANSFORMS

ALL_VALUES = np.arange(256, dtype=np.uint8)
# OpenCV's hue of 8 bits.
NUM_HUES = 180
HUE, SATURATION = 0, 1


@TRANSFORMS.register_module()
class PhotoMetricDistortion(MMSegPhotoMetricDistortion):
    """mmseg's ``PhotoMetricDistortion``: the same random values and the same images, in less time.

    mmseg computes every distortion for every pixel in single precision. A byte has only 256 values: they are computed
    once, and all pixels are looked up.

    Raises:
        ValueError: The image is not of bytes.
    """

    def transform(self, results: dict) -> dict:
        """Distort ``img`` (H, W, 3) uint8 BGR."""
        dtype = results['img'].dtype
        if dtype != np.uint8:
            raise ValueError(f'PhotoMetricDistortion: the image is {dtype}, not uint8: load it without to_float32')
        return super().transform(results)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return ``alpha * img + beta``, clipped to 0..255, of an image of bytes."""
        return cv2.LUT(img, super().convert(ALL_VALUES, alpha, beta))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Multiply the saturation by a random factor, or do nothing, with equal probability."""
        if not random.randint(2):
            return img
        alpha = random.uniform(self.saturation_lower, self.saturation_upper)
        return _convert_channel(img, SATURATION, super().convert(ALL_VALUES, alpha))

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Add a random number to the hue, or do nothing, with equal probability."""
        if not random.randint(2):
            return img
        shift = random.randint(-self.hue_delta, self.hue_delta)
        table = (ALL_VALUES.astype(int) + shift) % NUM_HUES
        return _convert_channel(img, HUE, table.astype(np.uint8))


def _convert_channel(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """Look up one channel of the HSV form of a BGR image in a table (256,)."""
    tables = np.stack([ALL_VALUES] * 3, -1)
    tables[:, channel] = table
    return mmcv.hsv2bgr(cv2.LUT(mmcv.bgr2hsv(image), tables[None]))
