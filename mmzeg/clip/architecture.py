"""Infer a CLIP's architecture from the names and shapes of its weights."""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path

import open_clip
from mmengine.logging import print_log
from torch import Tensor

from mmzeg.utils.weight_files import is_torchscript

_TEXT_WEIGHTS = ('token_embedding.weight', 'positional_embedding', 'text_projection', 'logit_scale')
_VIT_WEIGHTS = ('visual.proj', 'visual.conv1.weight', 'visual.positional_embedding')
# Values that OpenAI's archives hold and open_clip's files do not.
_OPENAI_VALUES = ('input_resolution', 'context_length', 'vocab_size')
_RESNET_WEIGHTS = ('visual.attnpool.positional_embedding', 'visual.layer1.0.conv1.weight')


def openai_config(state: Mapping[str, Tensor], path: Path) -> dict:
    """Return open_clip's constructor arguments for weights in OpenAI's names; QuickGELU, as OpenAI trained.

    open_clip saves models without QuickGELU under the same names. A file that does not come from OpenAI's archive may
    therefore be of either kind: a warning, once a file, says that QuickGELU is assumed.

    Args:
        state (Mapping[str, Tensor]): Weights by name.
        path (Path): Their file, for error messages.

    Raises:
        ValueError: The names are not OpenAI's, or the shapes are of a model with another head width than OpenAI's.
    """
    config = infer_config(state)
    if config is None:
        raise ValueError(f"{path}: no CLIP in OpenAI's names is in this file; if it is an open_clip one, set model")
    names = matching_architectures(config)
    if names and all(_num_heads(open_clip.get_model_config(name)) != _num_heads(config) for name in names):
        raise ValueError(f'{path}: this is {names[0]}, no model of OpenAI; set model={names[0]!r}')
    is_openai = any(name in state for name in _OPENAI_VALUES) or (path.is_file() and is_torchscript(path))
    if not is_openai:
        _warn_of_assumed_quick_gelu(path, tuple(names))
    return config


@functools.cache
def _warn_of_assumed_quick_gelu(path: Path, names: tuple[str, ...]) -> None:
    fix = f'set model to one of {", ".join(names)}' if names else 'put their open_clip_config.json next to the file'
    print_log(
        f"{path}: the weights do not say whether they were trained with QuickGELU; it is assumed, as in OpenAI's "
        f'models: {fix} to decide',
        'current',
        logging.WARNING,
    )


def infer_config(state: Mapping[str, Tensor]) -> dict | None:
    """Read open_clip's constructor arguments from weights in OpenAI's names; None for other names."""
    if any(name not in state for name in _TEXT_WEIGHTS):
        return None
    if all(name in state for name in _VIT_WEIGHTS):
        vision = _vit_config(state)
    elif all(name in state for name in _RESNET_WEIGHTS):
        vision = _resnet_config(state)
    else:
        return None
    context_length, width = state['positional_embedding'].shape
    text = dict(
        context_length=context_length,
        vocab_size=state['token_embedding.weight'].shape[0],
        width=width,
        heads=max(1, width // 64),
        layers=_num_blocks(state, 'transformer.resblocks.'),
    )
    embed_dim = state['text_projection'].shape[1]
    return dict(embed_dim=embed_dim, vision_cfg=vision, text_cfg=text, quick_gelu=True)


def matching_architectures(config: dict) -> list[str]:
    """Return the names of open_clip's architectures with the weight names and shapes of ``config``."""
    structure = _structure(config)
    return [name for name in open_clip.list_models() if _structure(open_clip.get_model_config(name)) == structure]


def _vit_config(state: Mapping[str, Tensor]) -> dict:
    width = state['visual.conv1.weight'].shape[0]
    patch_size = state['visual.conv1.weight'].shape[-1]
    # One position is the class token's.
    grid_size = round((state['visual.positional_embedding'].shape[0] - 1) ** 0.5)
    return dict(
        layers=_num_blocks(state, 'visual.transformer.resblocks.'),
        width=width,
        patch_size=patch_size,
        head_width=min(64, width),
        image_size=grid_size * patch_size,
    )


def _resnet_config(state: Mapping[str, Tensor]) -> dict:
    # One position is that of the mean token; the stride is 32.
    grid_size = round((state['visual.attnpool.positional_embedding'].shape[0] - 1) ** 0.5)
    return dict(
        layers=tuple(_num_blocks(state, f'visual.layer{stage}.') for stage in range(1, 5)),
        width=state['visual.layer1.0.conv1.weight'].shape[0],
        image_size=grid_size * 32,
    )


def _num_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split('.')[0] for name in state if name.startswith(prefix)})


def _structure(config: dict) -> tuple:
    """Return what decides the names and shapes of the weights."""
    vision = open_clip.CLIPVisionCfg(**config['vision_cfg'])
    text = open_clip.CLIPTextCfg(**config['text_cfg'])
    is_vit = isinstance(vision.layers, int)
    layers = vision.layers if is_vit else tuple(vision.layers)
    patch_size = vision.patch_size if is_vit else None
    foreign = vision.timm_model_name or text.hf_model_name or config.get('custom_text')
    image = (layers, vision.width, patch_size, vision.image_size)
    return config['embed_dim'], foreign, *image, text.context_length, text.vocab_size, text.width, text.layers


def _num_heads(config: dict) -> tuple[int, int]:
    """Return the number of attention heads of the image and the text encoder."""
    vision = open_clip.CLIPVisionCfg(**config['vision_cfg'])
    text = open_clip.CLIPTextCfg(**config['text_cfg'])
    return vision.width // vision.head_width, text.heads
