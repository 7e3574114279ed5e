"""Load a CLIP from a hub tag or a local file, and read its configuration without the weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transformer import LayerNormFp32
from torch import Tensor, nn

from mmzeg.clip.architecture import infer_config, matching_architectures, openai_config
from mmzeg.utils.weight_files import check_finite, is_torchscript, read_state

# Buffers that OpenAI's archives or older versions of open_clip and transformers store with the weights.
_BUFFERS = ('input_resolution', 'context_length', 'vocab_size', 'attn_mask', 'num_batches_tracked', 'position_ids')
# OVSeg's mask prompts, which a scorer reads from the same file.
MASK_PROMPTS = 'visual.mask_embedding'


def load_clip(
    model: str | None, pretrained: str, device: str | torch.device = 'cpu', dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Load a frozen open_clip model, in eval mode.

    Args:
        model (str, optional): open_clip's architecture name. None: see ``file_config``.
        pretrained (str): A local file (safetensors, a state dict, or OpenAI's TorchScript archive) or a hub tag.
        device (str | torch.device): Where to put it.
        dtype (torch.dtype): float32, or a half type for the matrix products; the norms and the scale stay float32.

    Returns:
        nn.Module: The open_clip model.

    Raises:
        FileNotFoundError: Neither a file nor a tag of this architecture.
        ConnectionError: The weights of a tag cannot be downloaded.
        ValueError: The file is truncated, is not a CLIP, is of another architecture, or has NaN weights.
    """
    path = weight_path(model, pretrained)
    state = read_state(path)
    check_finite(path, state)
    config = file_config(state, path) if model is None else model_config(model, pretrained)
    # Loading in the middle of a training or a validation must change neither the random numbers that follow, nor the
    # kind of its own tensors.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        network = _build(config, dtype).eval().requires_grad_(False)
        _load_weights(network, state, path, model)
        _to_precision(network, config, dtype)
        return network.to(device)


def weight_path(model: str | None, pretrained: str) -> Path:
    """Return the local file of weights, downloaded first if ``pretrained`` is a tag; errors as in ``load_clip``."""
    if Path(pretrained).is_file():
        return Path(pretrained)
    config = _tag_config(model, pretrained)
    try:
        return Path(open_clip.download_pretrained(config))
    # The hub's client raises types of its own besides OSError, and open_clip raises RuntimeError.
    except Exception as error:
        source = config.get('hf_hub') or config.get('url')
        raise ConnectionError(
            f'{model}:{pretrained} is out of reach ({type(error).__name__}): download it elsewhere (from {source}) and '
            'give its path as pretrained'
        ) from error


def model_config(model: str, pretrained: str) -> dict:
    """Return open_clip's config of an architecture; with QuickGELU if the weights were trained with it."""
    config = open_clip.get_model_config(model)
    path = Path(pretrained)
    # OpenAI publishes TorchScript archives, trained with QuickGELU whatever the architecture's name says.
    quick = is_torchscript(path) if path.is_file() else _tag_config(model, pretrained).get('quick_gelu')
    return config | {'quick_gelu': True} if quick else config


def file_config(state: Mapping[str, Tensor], path: Path) -> dict:
    """Return open_clip's constructor arguments: from the open_clip_config.json next to a file, else from its weights.

    Raises:
        ValueError: The JSON file is corrupted, or names a tokenizer other than OpenAI's or an architecture of a hub; or
            as ``openai_config``.
    """
    if not sidecar_config(path).is_file():
        return openai_config(state, path)
    config = _read_sidecar(path, 'model_cfg')
    text = config.get('text_cfg', {})
    if any(text.get(field) for field in ('hf_tokenizer_name', 'hf_model_name', 'tokenizer_kwargs')):
        raise ValueError(f"{path}: its texts need another tokenizer than OpenAI's: set model to its name in open_clip")
    if ':' in str(config.get('vision_cfg', {}).get('timm_model_name')):
        raise ValueError(f"{sidecar_config(path)}: timm_model_name names a hub: give timm's name of the architecture")
    return config


def statistics(model: str | None, pretrained: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the input, RGB in 0..1, without reading the weights.

    A tag has them in open_clip's list. For a local file they are in the hub's open_clip_config.json next to it, else
    those that all tags of its architecture share, else OpenAI's.

    Raises:
        ValueError: The architecture's tags differ and there is no open_clip_config.json.
    """
    path = Path(pretrained)
    if not path.is_file():
        configs = [_tag_config(model, pretrained)]
    elif sidecar_config(path).is_file():
        configs = [_read_sidecar(path, 'preprocess_cfg')]
    else:
        tags = open_clip.list_pretrained_tags_by_model(model)
        configs = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    candidates = {(tuple(config['mean']), tuple(config['std'])) for config in configs if config.get('mean')}
    if len(candidates) > 1:
        raise ValueError(
            f"{path}: {model}'s published weights differ in mean and deviation; put the open_clip_config.json of these "
            'weights next to the file'
        )
    return candidates.pop() if candidates else (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def sidecar_config(path: Path) -> Path:
    """Return the path of the config that open_clip's hub layout stores next to a weight file."""
    return path.with_name('open_clip_config.json')


def _read_sidecar(path: Path, key: str) -> dict:
    sidecar = sidecar_config(path)
    try:
        value = json.loads(sidecar.read_text(encoding='utf-8'))[key]
        if isinstance(value, dict):
            return value
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{sidecar}: not open_clip's config of a model: it needs an object {key!r}; download it again")


def _tag_config(model: str | None, tag: str) -> dict:
    config = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(model)) or 'none'
        raise FileNotFoundError(f'{tag}: no such file, nor an open_clip tag of {model} (tags: {tags})')
    return config


def _build(config: dict, dtype: torch.dtype) -> nn.Module:
    # Not open_clip.create_model: it warns of random weights, which are filled next, and knows registered names only.
    config = dict(config)
    vision = dict(config.pop('vision_cfg'))
    text = dict(config.pop('text_cfg'))
    vision['timm_model_pretrained'] = False
    text['hf_model_pretrained'] = False
    is_custom = config.pop('custom_text', False) or 'hf_model_name' in text
    model_class = open_clip.CLIP
    if is_custom:
        model_class = open_clip.CoCa if 'multimodal_cfg' in config else open_clip.CustomTextCLIP
    cast_dtype = None if dtype == torch.float32 else dtype
    return model_class(vision_cfg=vision, text_cfg=text, cast_dtype=cast_dtype, **config)


def _to_precision(network: nn.Module, config: dict, dtype: torch.dtype) -> None:
    """Round as open_clip (and OpenAI) do: only matrices in modules they know, all but text norms elsewhere."""
    if dtype == torch.float32:
        return
    scalars = {name: tensor.clone() for name, tensor in network.named_parameters() if name.startswith('logit_')}
    if 'timm_model_name' in config['vision_cfg'] or 'hf_model_name' in config['text_cfg']:
        network.to(dtype)
        for module in network.modules():
            if isinstance(module, LayerNormFp32):
                module.float()
    else:
        open_clip.convert_weights_to_lp(network, dtype)
    # exp() magnifies rounding: in bfloat16 a scale of 100 becomes 99.
    for name, tensor in scalars.items():
        getattr(network, name).data = tensor


def _load_weights(network: nn.Module, state: dict[str, Tensor], path: Path, model: str | None) -> None:
    """Copy the weights into the model; raise ValueError unless names and shapes match exactly."""
    ours = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_BUFFERS)}
    inferred = infer_config(state)
    state = {name: tensor for name, tensor in state.items() if name != MASK_PROMPTS}
    # Convert the names, drop buffers, and reshape scalars that were saved with one element.
    state = convert_state_dict(network, state)
    if 'positional_embedding' in state and 'positional_embedding' not in ours:
        state = convert_to_custom_text_state_dict(state)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(_BUFFERS)}
    for name in ('logit_scale', 'logit_bias'):
        if name in ours and name in state and state[name].numel() == 1:
            state[name] = state[name].reshape(ours[name].shape)
    # Compare names and shapes.
    for name in [*ours, *state]:
        shape = tuple(state[name].shape) if name in state else 'missing'
        expected = tuple(ours[name].shape) if name in ours else 'none'
        if shape != expected:
            names = matching_architectures(inferred) if inferred else []
            fix = f'it has the shapes of {names[0]}' if names else 'name the architecture the file was made with'
            raise ValueError(
                f'{path}: not the weights of {model or "an OpenAI CLIP"}: {name} is {shape}, {expected} was expected; '
                f'{fix}'
            )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
