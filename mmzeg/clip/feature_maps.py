"""The maps of a convolutional image encoder's four stages, as FC-CLIP takes them (arXiv 2308.02487)."""

from functools import lru_cache

import open_clip
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from timm.models import ConvNeXt, ResNet
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


def map_channels(config: dict) -> tuple[int, ...] | None:
    """Return the channels of the four maps, strides 4 to 32; None for an image encoder without four stages.

    Args:
        config (dict): open_clip's model configuration. The model is not built.
    """
    vision = open_clip.CLIPVisionCfg(**config['vision_cfg'])
    if vision.timm_model_name:
        return _trunk_channels(vision.timm_model_name)
    if isinstance(vision.layers, int):
        return None
    # A bottleneck block of OpenAI's ResNet widens its input four times.
    return tuple(4 * vision.width * 2**stage for stage in range(4))


def feature_maps(visual: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return the maps (N, c_i, h / 4 / 2^i, w / 4 / 2^i) of the four stages for images (N, 3, h, w).

    Args:
        visual (nn.Module): The image encoder of an open_clip model, for which ``map_channels`` is not None.
        images (Tensor): Normalized with CLIP's mean and deviation, in the encoder's type.
    """
    if isinstance(visual, ModifiedResNet):
        x = visual.stem(images)
        stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    elif isinstance(visual.trunk, ConvNeXt):
        x = visual.trunk.stem(images)
        stages = visual.trunk.stages
    else:
        trunk = visual.trunk
        x = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(images))))
        stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return tuple(maps)


def pooled_map(visual: nn.Module, last_map: Tensor) -> Tensor:
    """Return the map that the image encoder pools, from the last one of ``feature_maps``; both (N, c, h, w)."""
    is_convnext = not isinstance(visual, ModifiedResNet) and isinstance(visual.trunk, ConvNeXt)
    # The identity in all published CLIPs.
    return visual.trunk.norm_pre(last_map) if is_convnext else last_map


@lru_cache
def _trunk_channels(name: str) -> tuple[int, ...] | None:
    """Return the channels of a timm model's four maps; None unless it is a ConvNeXt or a ResNet."""
    # A model on the meta device has no weights.
    with torch.device('meta'):
        trunk = timm.create_model(name, pretrained=False)
    if not isinstance(trunk, (ConvNeXt, ResNet)):
        return None
    channels = {stage['reduction']: stage['num_chs'] for stage in trunk.feature_info}
    return tuple(channels[stride] for stride in STRIDES)
