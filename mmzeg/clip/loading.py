"""One function through which every CLIP is made: hub tag and local file alike."""

import json
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transformer import LayerNormFp32
from torch import Tensor, nn

from mmzeg.utils.weight_files import is_torchscript, read_state

# Buffers that OpenAI's archives or older versions of open_clip and transformers keep beside the weights.
_NO_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size', 'attn_mask', 'num_batches_tracked', 'position_ids')


def load_clip(
    model: str | None, pretrained: str, device: str | torch.device = 'cpu', dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Make a frozen open_clip model, in eval mode.

    Args:
        model (str, optional): open_clip's architecture name. None: as ``file_config`` finds it.
        pretrained (str): A local file (safetensors, a state dict, or OpenAI's TorchScript archive) or a hub tag.
        device (str | torch.device): Where to put it.
        dtype (torch.dtype): float32, or a half type for the matrix products; the norms and the scale stay float32.

    Raises:
        FileNotFoundError: Neither a file nor a tag of this architecture.
        ConnectionError: The weights of a tag cannot be downloaded.
        ValueError: The file is cut off, is not a CLIP, or is of another architecture.
    """
    path = weight_path(model, pretrained)
    state = read_state(path)
    config = file_config(state, path) if model is None else model_config(model, pretrained)
    # Made in the middle of a training or a validation, it must leave neither the random numbers that follow nor its
    # own tensors another way than if it had been made at the start.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        network = _build(config, dtype).eval().requires_grad_(False)
        _fill(network, state, path, model)
        _to_precision(network, config, dtype)
        return network.to(device)


def model_config(model: str, pretrained: str) -> dict:
    """open_clip's config of an architecture; with QuickGELU where the weights were trained with it."""
    config = open_clip.get_model_config(model)
    path = Path(pretrained)
    # OpenAI publishes TorchScript archives, and trained them with QuickGELU whatever the name here says.
    quick = is_torchscript(path) if path.is_file() else _tag(model, pretrained).get('quick_gelu')
    return config | {'quick_gelu': True} if quick else config


def statistics(model: str | None, pretrained: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the input, RGB in 0..1, found without the weights.

    A tag says them; those of a local file are in the hub's open_clip_config.json beside it, else what all tags of its
    architecture have, else OpenAI's.

    Raises:
        ValueError: The architecture's tags differ and nothing beside the file says which it is.
    """
    path = Path(pretrained)
    if not path.is_file():
        configs = [_tag(model, pretrained)]
    elif sidecar_config(path).is_file():
        configs = [_read_sidecar(path, 'preprocess_cfg')]
    else:
        tags = open_clip.list_pretrained_tags_by_model(model)
        configs = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    found = {(tuple(config['mean']), tuple(config['std'])) for config in configs if config.get('mean')}
    if len(found) > 1:
        raise ValueError(
            f"{path}: {model}'s published weights differ in mean and deviation; put the open_clip_config.json of these "
            'beside the file'
        )
    return found.pop() if found else (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def sidecar_config(path: Path) -> Path:
    """Where open_clip's hub layout keeps the config of a file of weights."""
    return path.with_name('open_clip_config.json')


def _read_sidecar(path: Path, key: str) -> dict:
    beside = sidecar_config(path)
    try:
        found = json.loads(beside.read_text(encoding='utf-8'))[key]
        if isinstance(found, dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{beside}: not open_clip's config of a model: it needs an object {key!r}; take it from the hub")


def file_config(state: Mapping[str, Tensor], path: Path) -> dict:
    """open_clip's constructor arguments: of the hub's open_clip_config.json beside a file, else from its weights.

    Raises:
        ValueError: The config is damaged, or asks for a tokenizer of its own; or as ``openai_config``.
    """
    if not sidecar_config(path).is_file():
        return openai_config(state, path)
    config = _read_sidecar(path, 'model_cfg')
    text = config.get('text_cfg', {})
    if any(text.get(field) for field in ('hf_tokenizer_name', 'hf_model_name', 'tokenizer_kwargs')):
        raise ValueError(f'{path}: its texts need a tokenizer of their own: set model to its name in open_clip')
    return config


def _tag(model: str | None, tag: str) -> dict:
    found = open_clip.get_pretrained_cfg(model, tag)
    if not found:
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(model)) or 'none'
        raise FileNotFoundError(f'{tag}: no such file, nor an open_clip tag of {model} (tags: {tags})')
    return found


def weight_path(model: str | None, pretrained: str) -> Path:
    """The local file of weights, downloaded first where ``pretrained`` is a tag; errors as in ``load_clip``."""
    if Path(pretrained).is_file():
        return Path(pretrained)
    config = _tag(model, pretrained)
    try:
        return Path(open_clip.download_pretrained(config))
    # The hub's client raises types of its own beside OSError, and open_clip its own RuntimeError.
    except Exception as error:
        source = config.get('hf_hub') or config.get('url')
        raise ConnectionError(
            f'{model}:{pretrained} is out of reach ({type(error).__name__}): download it elsewhere (from {source}) and '
            'give its path as pretrained'
        ) from error


def openai_config(state: Mapping[str, Tensor], path: Path) -> dict:
    """open_clip's constructor arguments, read from the shapes of weights in OpenAI's names; QuickGELU, as they have.

    Raises:
        ValueError: The names are not OpenAI's, or the shapes are of a model whose heads are not as wide as OpenAI's.
    """
    config = _infer(state)
    if config is None:
        raise ValueError(f"{path}: no CLIP in OpenAI's names is in this file; if it is an open_clip one, set model")
    names = _known_names(config)
    if names and all(_heads(open_clip.get_model_config(name)) != _heads(config) for name in names):
        raise ValueError(f'{path}: this is {names[0]}, no model of OpenAI; set model={names[0]!r}')
    return config


def _infer(state: Mapping[str, Tensor]) -> dict | None:
    needed = ('token_embedding.weight', 'positional_embedding', 'text_projection', 'logit_scale')
    if any(name not in state for name in needed):
        return None

    def blocks(prefix: str) -> int:
        return len({name[len(prefix) :].split('.')[0] for name in state if name.startswith(prefix)})

    if {'visual.proj', 'visual.conv1.weight', 'visual.positional_embedding'} <= state.keys():
        width, patch = state['visual.conv1.weight'].shape[0], state['visual.conv1.weight'].shape[-1]
        grid = round((state['visual.positional_embedding'].shape[0] - 1) ** 0.5)
        layers = blocks('visual.transformer.resblocks.')
        vision = dict(layers=layers, width=width, patch_size=patch, head_width=min(64, width), image_size=grid * patch)
    elif {'visual.attnpool.positional_embedding', 'visual.layer1.0.conv1.weight'} <= state.keys():
        layers = tuple(blocks(f'visual.layer{stage}.') for stage in range(1, 5))
        grid = round((state['visual.attnpool.positional_embedding'].shape[0] - 1) ** 0.5)
        vision = dict(layers=layers, width=state['visual.layer1.0.conv1.weight'].shape[0], image_size=grid * 32)
    else:
        return None
    context, width = state['positional_embedding'].shape
    text = dict(
        context_length=context,
        vocab_size=state['token_embedding.weight'].shape[0],
        width=width,
        heads=max(1, width // 64),
        layers=blocks('transformer.resblocks.'),
    )
    embed_dim = state['text_projection'].shape[1]
    return dict(embed_dim=embed_dim, vision_cfg=vision, text_cfg=text, quick_gelu=True)


def _known_names(config: dict) -> list[str]:
    """open_clip's architectures whose weights have the names and shapes of those of ``config``."""

    def structure(config: dict) -> tuple:
        vision, text = open_clip.CLIPVisionCfg(**config['vision_cfg']), open_clip.CLIPTextCfg(**config['text_cfg'])
        layers = vision.layers if isinstance(vision.layers, int) else tuple(vision.layers)
        patch = vision.patch_size if isinstance(layers, int) else None
        foreign = vision.timm_model_name or text.hf_model_name or config.get('custom_text')
        image = (layers, vision.width, patch, vision.image_size)
        return config['embed_dim'], foreign, *image, text.context_length, text.vocab_size, text.width, text.layers

    wanted = structure(config)
    return [name for name in open_clip.list_models() if structure(open_clip.get_model_config(name)) == wanted]


def _heads(config: dict) -> tuple[int, int]:
    vision, text = open_clip.CLIPVisionCfg(**config['vision_cfg']), open_clip.CLIPTextCfg(**config['text_cfg'])
    return vision.width // vision.head_width, text.heads


def _build(config: dict, dtype: torch.dtype) -> nn.Module:
    # Not open_clip.create_model: it warns of random weights, which are filled next, and knows registered names only.
    config = dict(config)
    vision, text = dict(config.pop('vision_cfg')), dict(config.pop('text_cfg'))
    vision['timm_model_pretrained'] = text['hf_model_pretrained'] = False
    custom = config.pop('custom_text', False) or 'hf_model_name' in text
    kind = open_clip.CLIP
    if custom:
        kind = open_clip.CoCa if 'multimodal_cfg' in config else open_clip.CustomTextCLIP
    return kind(vision_cfg=vision, text_cfg=text, cast_dtype=None if dtype == torch.float32 else dtype, **config)


def _to_precision(network: nn.Module, config: dict, dtype: torch.dtype) -> None:
    """As open_clip (and OpenAI) round: matrices only where they know the modules, all but text norms elsewhere."""
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


def _fill(network: nn.Module, state: dict[str, Tensor], path: Path, model: str | None) -> None:
    """Copy the weights in; ValueError unless names and shapes are exactly the model's."""
    ours = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_NO_WEIGHTS)}
    looks_like = _infer(state)
    state = convert_state_dict(network, state)
    if 'positional_embedding' in state and 'positional_embedding' not in ours:
        state = convert_to_custom_text_state_dict(state)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(_NO_WEIGHTS)}
    for name in ('logit_scale', 'logit_bias'):
        if name in ours and name in state and state[name].numel() == 1:
            state[name] = state[name].reshape(ours[name].shape)
    for name in [*ours, *state]:
        found = tuple(state[name].shape) if name in state else 'missing'
        wanted = tuple(ours[name].shape) if name in ours else 'none'
        if found != wanted:
            names = _known_names(looks_like) if looks_like else []
            mend = f'it has the shapes of {names[0]}' if names else 'name the architecture the file was made with'
            raise ValueError(
                f'{path}: not the weights of {model or "an OpenAI CLIP"}: {name} is {found}, {wanted} was expected; '
                f'{mend}'
            )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
