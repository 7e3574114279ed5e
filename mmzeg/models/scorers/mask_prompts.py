"""Mask prompts of OVSeg (arXiv 2210.04150): learned tokens in place of the patches outside a mask."""

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor

from mmzeg.clip.fast_encoders import run_block
from mmzeg.clip.loading import MASK_PROMPTS
from mmzeg.utils.weight_files import read_state

# Names of the prompts in a weight file: the released one, and that without the encoder's prefix.
_NAMES = (MASK_PROMPTS, 'mask_embedding')


def read_mask_prompts(path: str | Path) -> Tensor:
    """Read mask prompts (depth, patches, width) float32 from a weight file of any kind, without running code in it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is truncated or holds no mask prompts.
    """
    state = read_state(path)
    for name in _NAMES:
        if name in state and state[name].dim() == 3:
            return state[name].float()
    raise ValueError(
        f'{path}: no mask prompts in it ({MASK_PROMPTS} of shape (depth, patches, width)): convert the released '
        'checkpoint with tools/model_converters/ovseg.py'
    )


def check_mask_prompts(prompts: Tensor, visual: VisionTransformer, path: str | Path) -> None:
    """Raise ValueError unless mask prompts (depth, patches, width) fit an image encoder."""
    depth, num_patches, width = prompts.shape
    num_layers = len(visual.transformer.resblocks)
    num_positions, encoder_width = visual.positional_embedding.shape
    # One prompt may stand in for all patches.
    fits = num_patches in (1, num_positions - 1) and width == encoder_width
    if not fits or not 1 <= depth <= num_layers:
        raise ValueError(
            f'{path}: mask prompts of depth {depth} for {num_patches} patches of width {width} do not fit this CLIP of '
            f'{num_layers} layers with {num_positions - 1} patches of width {encoder_width}: use the CLIP that they '
            'were trained with'
        )


def encode_with_prompts(visual: VisionTransformer, crops: Tensor, masks: Tensor, prompts: Tensor) -> Tensor:
    """Encode crops with prompts in place of the patches outside their masks.

    A patch that holds any pixel of the mask counts as inside. Prompts stand in before the first layer and after each of
    the next depth - 1 layers.

    Args:
        visual (VisionTransformer): An encoder that reads its class token, see ``fast_encoders.reads_class_token``.
        crops (Tensor): (n, 3, h, w) at the encoder's own size, normalized.
        masks (Tensor): (n, 1, h, w), 1 in the mask and 0 outside.
        prompts (Tensor): (depth, patches, width).

    Returns:
        Tensor: (n, d), not unit length.
    """
    patches = visual.conv1(crops).flatten(2).transpose(1, 2)
    is_inside = F.max_pool2d(masks, visual.patch_size, stride=visual.patch_size).flatten(1)[..., None] > 0
    prompts = prompts.to(patches.dtype)
    # Replace the patches, then embed as CLIP does.
    patches = torch.where(is_inside, patches, prompts[0])
    class_token = visual.class_embedding.to(patches.dtype).expand(len(crops), 1, -1)
    x = torch.cat([class_token, patches], 1) + visual.positional_embedding.to(patches.dtype)
    x = visual.ln_pre(x)
    # Replace them again after each of the first layers.
    *blocks, last_block = visual.transformer.resblocks
    for index, block in enumerate(blocks):
        x = run_block(block, x, num_tokens=x.shape[1])
        if index + 1 < len(prompts):
            x = torch.cat([x[:, :1], torch.where(is_inside, x[:, 1:], prompts[index + 1])], 1)
    # The last layer computes the class token only.
    class_token = run_block(last_block, x, num_tokens=1)[:, 0]
    return visual.ln_post(class_token) @ visual.proj
