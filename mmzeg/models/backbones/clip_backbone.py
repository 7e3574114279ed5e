"""A frozen convolutional CLIP as a backbone (FC-CLIP, arXiv 2308.02487)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmzeg.models.channel_order import converts_to_rgb
from mmzeg.registry import MODELS


@MODELS.register_module()
class CLIPBackbone(BaseModule):
    """Return the maps of CLIP's four stages, strides 4 to 32, for any head of mmseg or mmzeg.

    CLIP is frozen: it has no parameters here, so that no optimizer trains it and no checkpoint holds it. It is loaded
    with the first image, onto the image's device, and shared with the classifier and the scorer that have an equal
    ``clip``. ``CLIPDensePoolScorer`` reuses the last map.

    The inputs must be normalized with CLIP's mean and deviation, see ``check_normalization``.

    Args:
        clip (dict): ``mmzeg.CLIP`` with a convolutional image encoder: a ConvNeXt, or a ResNet. Its ``precision`` is
            that of the backbone, also under autocast; the maps are float32.

    Raises:
        ValueError: The image encoder does not have four stages.
    """

    def __init__(self, clip: dict) -> None:
        super().__init__()
        self.clip = MODELS.build(clip)
        channels = self.clip.map_channels
        if channels is None:
            raise ValueError(
                'CLIPBackbone needs a CLIP whose image encoder has four stages, and '
                f'{self.clip.model or self.clip.pretrained} has none: use a ConvNeXt or a ResNet, such as '
                "model='convnext_base_w' or 'RN50'"
            )
        self.out_channels = channels

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return four maps (B, c_i, H / 4 / 2^i, W / 4 / 2^i) float32, without gradients, for inputs (B, 3, H, W)."""
        return self.clip.feature_maps(inputs)

    def check_normalization(self, preprocessor: nn.Module) -> None:
        """Raise ValueError unless a data preprocessor gives RGB images with CLIP's mean and deviation."""
        mean = [255 * value for value in self.clip.image_mean]
        std = [255 * value for value in self.clip.image_std]
        is_normalized = getattr(preprocessor, '_enable_normalize', False)
        has_statistics = is_normalized and all(
            torch.allclose(given.flatten().cpu(), torch.tensor(expected), atol=1e-2)
            for given, expected in ((preprocessor.mean, mean), (preprocessor.std, std))
        )
        # mmseg reads BGR.
        if not has_statistics or not converts_to_rgb(preprocessor):
            raise ValueError(
                "CLIPBackbone needs CLIP's own normalization: set model.data_preprocessor to bgr_to_rgb=True, "
                f'mean={[round(value, 4) for value in mean]}, std={[round(value, 4) for value in std]}'
            )
