"""Network inputs from loaded images, without a wait for the GPU."""

from mmengine.structures import BaseDataElement
from mmseg.models import SegDataPreProcessor as MMSegSegDataPreProcessor
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device
from mmzeg.registry import MODELS


@MODELS.register_module()
class SegDataPreProcessor(MMSegSegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor``: the same inputs and samples, without a wait for the GPU.

    mmseg's waits for every copy of an image and of a label map. It waits once more for every image whose channels it
    reverses, as it copies the list of their order to the GPU.

    Args:
        bgr_to_rgb (bool): Whether to reverse the channels of BGR images. Defaults to False.
        rgb_to_bgr (bool): Whether to reverse the channels of RGB images. Defaults to False.
        kwargs: The other arguments of mmseg's class: ``mean``, ``std``, ``size``, ``size_divisor``, ``pad_val``,
            ``seg_pad_val``, ``batch_augments``, ``test_cfg``.

    Raises:
        ValueError: Both ``bgr_to_rgb`` and ``rgb_to_bgr``.
    """

    def __init__(self, bgr_to_rgb: bool = False, rgb_to_bgr: bool = False, **kwargs: object) -> None:
        if bgr_to_rgb and rgb_to_bgr:
            raise ValueError('model.data_preprocessor: bgr_to_rgb and rgb_to_bgr exclude each other: set one of them')
        # Channels are reversed here, not by mmseg's class.
        super().__init__(**kwargs)
        self.reverses_channels = bgr_to_rgb or rgb_to_bgr

    def forward(self, data: dict, training: bool = False) -> dict:
        """Copy a batch to the device, reverse channels, normalize and pad.

        Args:
            data (dict): ``inputs``, images (3, H, W) uint8, and ``data_samples``, a list of ``SegDataSample`` or None.
            training (bool): Whether label maps are padded, and images as in training. Defaults to False.

        Returns:
            dict: ``inputs`` (B, 3, H', W') float32, and ``data_samples``, as of mmseg's class.
        """
        data = self.cast_data(data)
        if self.reverses_channels and len(data['inputs'][0]) == 3:
            data['inputs'] = [image.flip(0) for image in data['inputs']]
        # Everything is on the device: mmseg's class copies nothing again.
        return super().forward(data, training)

    def cast_data(self, data: object) -> object:
        """Return images, samples, or containers of them, on the device; see MMEngine's ``BaseDataPreprocessor``."""
        if isinstance(data, Tensor):
            return copy_to_device(data, self.device)
        if isinstance(data, BaseDataElement):
            # A data loader pins no memory of samples, and a copy from other memory waits.
            copied = data.new()
            fields = {name: value for name, value in data.items() if isinstance(value, (Tensor, BaseDataElement))}
            copied.set_data(self.cast_data(fields))
            return copied
        return super().cast_data(data)
