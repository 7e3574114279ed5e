"""The segmentor of the paper's per-pixel baseline (docs/en/method.md#per-pixel-baseline)."""

from torch import Tensor

from mmzeg.models.calibration import calibrate, class_offset
from mmzeg.models.segmentors.zero_shot_segmentor import ZeroShotSegmentor
from mmzeg.registry import MODELS


@MODELS.register_module()
class PerPixelSegmentor(ZeroShotSegmentor):
    """SPNet with an FPN: classify every pixel on its own; calibrate seen classes after the softmax.

    Args:
        backbone (dict): An mmseg backbone with outputs at strides 4 to 32.
        decode_head (dict): ``mmzeg.PerPixelHead``; ``in_channels`` default to the backbone's channels.
        gamma (float): Calibration, subtracted from every seen class of the semantic map, >= 0. Defaults to 0.
        kwargs: What mmseg's ``EncoderDecoder`` takes.

    Raises:
        ValueError: ``gamma`` is below 0.
    """

    def __init__(self, backbone: dict, decode_head: dict, gamma: float = 0.0, **kwargs) -> None:
        super().__init__(backbone=backbone, decode_head=decode_head, **kwargs)
        if gamma < 0:
            raise ValueError(f'gamma must be 0 or more, got {gamma}')
        self.gamma = gamma

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the calibrated semantic map (B, C, H, W) at the padded input's size."""
        semantic_map = super().encode_decode(inputs, batch_img_metas)
        return calibrate(semantic_map, class_offset(self.seen_mask(inputs.device), self.gamma))
