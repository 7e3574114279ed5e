"""One function through which every CLIP is made: hub tag and local file alike."""

import json
from pathlib import Path

import open_clip
from torch import Tensor, nn

from mmzeg.utils.weight_files import is_torchscript, read_state


def load_clip(model: str | None, pretrained: str) -> nn.Module:
    """Make a frozen open_clip model in float32 on the CPU.

    Args:
        model (str, optional): open_clip's architecture name. None: read from a local file in OpenAI's names.
        pretrained (str): A local file (safetensors, a state dict, or OpenAI's TorchScript archive) or a hub tag.

    Raises:
        FileNotFoundError: Neither a file nor a tag of this architecture.
        ValueError: The file is cut off, is not a CLIP, or is of another architecture.
    """
    path = Path(pretrained)
    if path.is_file():
        state = read_state(path)
        if model is None:
            clip = _from_openai_names(state, path)
        else:
            # OpenAI publishes TorchScript archives, and trained them with QuickGELU whatever the name here says.
            clip = open_clip.create_model(model, pretrained=None, force_quick_gelu=is_torchscript(path))
            _set_statistics(clip, model, path)
        _fill(clip, state, path, model)
    else:
        tags = open_clip.list_pretrained_tags_by_model(model)
        if pretrained not in tags:
            raise FileNotFoundError(
                f'{pretrained}: no such file, nor an open_clip tag of {model} (tags: {", ".join(tags) or "none"})'
            )
        quick = bool(open_clip.get_pretrained_cfg(model, pretrained).get('quick_gelu'))
        try:
            clip = open_clip.create_model(model, pretrained=pretrained, force_quick_gelu=quick)
        except OSError as error:
            raise FileNotFoundError(
                f'{model}:{pretrained} is out of reach ({type(error).__name__}): download it elsewhere and give its '
                'path as pretrained'
            ) from error
    return clip.float().eval().requires_grad_(False)


def _set_statistics(clip: nn.Module, model: str, path: Path) -> None:
    """Mean and deviation of a local file: from the hub's open_clip_config.json beside it, else as all tags have them.

    Raises:
        ValueError: The architecture's tags differ and nothing beside the file says which it is.
    """
    beside = path.with_name('open_clip_config.json')
    if beside.is_file():
        found = json.loads(beside.read_text())['preprocess_cfg']
        statistics = {(tuple(found['mean']), tuple(found['std']))}
    else:
        tags = open_clip.list_pretrained_tags_by_model(model)
        configs = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
        statistics = {(tuple(config['mean']), tuple(config['std'])) for config in configs if config.get('mean')}
    if len(statistics) > 1:
        raise ValueError(
            f"{path}: {model}'s published weights differ in mean and deviation; put the open_clip_config.json of these "
            'beside the file'
        )
    for mean, std in statistics:
        open_clip.model.set_model_preprocess_cfg(clip, clip.visual.preprocess_cfg | {'mean': mean, 'std': std})


def openai_config(state: dict[str, Tensor], path: Path) -> dict:
    """open_clip's constructor arguments, read from the shapes of weights in OpenAI's names; QuickGELU, as they have.

    Raises:
        ValueError: The names are not OpenAI's.
    """
    needed = ('token_embedding.weight', 'positional_embedding', 'text_projection', 'logit_scale')
    if any(name not in state for name in needed) or not any(name.startswith('visual.') for name in state):
        raise ValueError(f"{path}: no CLIP in OpenAI's names is in this file; if it is an open_clip one, set model")

    def blocks(prefix: str) -> int:
        return len({name[len(prefix) :].split('.')[0] for name in state if name.startswith(prefix)})

    if 'visual.proj' in state:
        width, patch = state['visual.conv1.weight'].shape[0], state['visual.conv1.weight'].shape[-1]
        grid = round((state['visual.positional_embedding'].shape[0] - 1) ** 0.5)
        layers = blocks('visual.transformer.resblocks.')
        vision = dict(layers=layers, width=width, patch_size=patch, head_width=min(64, width), image_size=grid * patch)
    else:
        layers = tuple(blocks(f'visual.layer{stage}.') for stage in range(1, 5))
        grid = round((state['visual.attnpool.positional_embedding'].shape[0] - 1) ** 0.5)
        vision = dict(layers=layers, width=state['visual.layer1.0.conv1.weight'].shape[0], image_size=grid * 32)
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


def _from_openai_names(state: dict[str, Tensor], path: Path) -> nn.Module:
    clip = open_clip.CLIP(**openai_config(state, path))
    open_clip.model.set_model_preprocess_cfg(
        clip, dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    )
    return clip


def _fill(clip: nn.Module, state: dict[str, Tensor], path: Path, model: str | None) -> None:
    ours = {name: tensor.shape for name, tensor in clip.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if name in ours or name.split('.')[0] in ('visual', 'text')}
    wrong = [name for name, shape in ours.items() if name not in state or state[name].shape != shape]
    wrong = [name for name in wrong if not name.endswith(('attn_mask', 'num_batches_tracked', 'position_ids'))]
    if wrong:
        found = tuple(state[wrong[0]].shape) if wrong[0] in state else 'missing'
        raise ValueError(
            f'{path}: not the weights of {model or "an OpenAI CLIP"}: {wrong[0]} is {found}, '
            f'{tuple(ours[wrong[0]])} was expected; name the architecture the file was made with'
        )
    clip.load_state_dict({name: tensor.float() for name, tensor in state.items() if name in ours}, strict=False)
