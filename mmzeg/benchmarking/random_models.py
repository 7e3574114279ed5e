"""Models with random weights: speed and memory depend on the architecture only, so no weights need be downloaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip
import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import Tensor, nn

from mmzeg.clip.fast_encoders import reads_class_token
from mmzeg.clip.loading import MASK_PROMPTS
from mmzeg.utils.config_files import read_config

# Layers with mask prompts in OVSeg's released checkpoint.
OVSEG_PROMPT_DEPTH = 3


@contextmanager
def random_clip(architecture: str | None, seed: int) -> Iterator[dict | None]:
    """Yield the config of a CLIP with random weights, in a file that exists within the ``with`` block.

    The file of a vision transformer that reads a class token also has mask prompts, as OVSeg's.

    Args:
        architecture (str, optional): A name of ``open_clip.list_models()``. None: yield None.
        seed (int): Of the weights.

    Raises:
        ValueError: open_clip has no such architecture.
    """
    if architecture is None:
        yield None
        return
    if architecture not in open_clip.list_models():
        raise ValueError(f'--random-clip {architecture}: no open_clip architecture; see open_clip.list_models()')
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        network = open_clip.create_model(architecture, force_quick_gelu=False)
        state = network.state_dict() | _random_mask_prompts(network.visual)
        del network
        path = Path(folder, f'{architecture}.safetensors')
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        # Free the memory of the weights before anything is measured.
        del state
        yield dict(type='mmzeg.CLIP', model=architecture, pretrained=str(path), cache_dir=folder)


def _random_mask_prompts(visual: nn.Module) -> dict[str, Tensor]:
    """Return random mask prompts of OVSeg's depth under their name in a file; nothing if an encoder cannot take any."""
    if not reads_class_token(visual):
        return {}
    num_positions, width = visual.positional_embedding.shape
    return {MASK_PROMPTS: torch.randn(OVSEG_PROMPT_DEPTH, num_positions - 1, width)}


def random_zegformer_config(
    config: str, cfg_options: dict | None = None, clip: dict | None = None, num_classes: int | None = None
) -> Config:
    """Return the config of a ZegFormer for random weights, in fusion mode ``full``, or ``geometric`` if it is that.

    Args:
        config (str): A config file, or its name in ``configs``.
        cfg_options (dict, optional): Changed fields, ``a.b`` -> value.
        clip (dict, optional): The CLIP of classifier and scorer, and of a ``CLIPBackbone``. Defaults to the config's.
        num_classes (int, optional): Number of made-up classes that replace the config's, a tenth of them unseen.

    Raises:
        FileNotFoundError: No such config.
        ValueError: The config is of another model.
    """
    cfg = read_config(config, cfg_options)
    if cfg.model.type != 'mmzeg.ZegFormer':
        raise ValueError(f'{config}: {cfg.model.type} has no stages to measure: give it as --baselines')
    if cfg.model.backbone.type == 'mmzeg.CLIPBackbone':
        cfg.model.backbone.clip = clip or cfg.model.backbone.clip
    else:
        cfg.model.backbone.init_cfg = None
    fusion = cfg.model.get('fusion') or {}
    cfg.model.fusion = dict(fusion, mode='geometric' if fusion.get('mode') == 'geometric' else 'full')
    classifier = cfg.model.decode_head.classifier
    if clip:
        # With random weights one prompt template is as good as eighty.
        classifier.update(text_encoder=clip, test_prompts='single')
        cfg.model.scorer.update(clip=clip, prompts='single')
    if num_classes:
        names = [f'thing {number}' for number in range(num_classes)]
        classifier.vocabulary = dict(classes=names, unseen=names[-max(1, num_classes // 10) :])
        classifier.pop('train_vocabulary', None)
    return cfg


def clip_name(clip: dict) -> str:
    """Return the name of a CLIP's architecture, or, where its config has none, of its weight file."""
    return clip.get('model') or Path(clip['pretrained']).name


def config_stem(config: str) -> str:
    """Return the name of a config file without folder and suffix."""
    return Path(config.replace('::', '/')).stem
