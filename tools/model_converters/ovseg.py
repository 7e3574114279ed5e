"""Take CLIP and the mask prompts out of a checkpoint of OVSeg (arXiv 2210.04150), for CLIPMaskPromptScorer.

python tools/model_converters/ovseg.py ovseg_swinbase_vitL14_ft_mpt.pth ovseg_clip.pth

No pickled code of the checkpoint is run. The target is a CLIP in OpenAI's names with ``visual.mask_embedding``.
"""

import torch
from torch import Tensor

from mmzeg.clip.architecture import infer_config
from mmzeg.clip.loading import MASK_PROMPTS
from mmzeg.utils.model_converter import convert_file
from mmzeg.utils.weight_files import read_state

PREFIX = 'clip_adapter.clip_model.'


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return CLIP's weights and the mask prompts of a state dict of OVSeg, without its segmentation model.

    Raises:
        ValueError: No vision transformer in OpenAI's names, or no mask prompts.
    """
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    config = infer_config(weights)
    if config is None or not isinstance(config['vision_cfg']['layers'], int):
        raise ValueError(f'no CLIP of OVSeg in it: a vision transformer under {PREFIX} expected')
    if MASK_PROMPTS not in weights or weights[MASK_PROMPTS].dim() != 3:
        raise ValueError(f'no mask prompts in it: {PREFIX}{MASK_PROMPTS} (depth, patches, width) expected')
    # OpenAI's own files hold these values, by which mmzeg.CLIP knows that QuickGELU is meant.
    values = dict(
        input_resolution=config['vision_cfg']['image_size'],
        context_length=config['text_cfg']['context_length'],
        vocab_size=config['text_cfg']['vocab_size'],
    )
    depth, num_patches, width = weights[MASK_PROMPTS].shape
    print(f'mask prompts of depth {depth} for {num_patches} patches of width {width}')
    return weights | {name: torch.tensor(value) for name, value in values.items()}


if __name__ == '__main__':
    convert_file(__doc__, read_state, convert)
