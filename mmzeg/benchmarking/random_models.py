"""Models with random weights: speed and memory depend on the architecture only, so no weights need be downloaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmseg
import open_clip
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from mmzeg.utils.config_files import read_config


@contextmanager
def random_clip(architecture: str | None, seed: int) -> Iterator[dict | None]:
    """Yield the config of a CLIP with random weights, in a file that exists within the ``with`` block.

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
        state = open_clip.create_model(architecture, force_quick_gelu=False).state_dict()
        path = Path(folder, f'{architecture}.safetensors')
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        # Free the memory of the weights before anything is measured.
        del state
        yield dict(type='mmzeg.CLIP', model=architecture, pretrained=str(path), cache_dir=folder)


def random_zegformer_config(
    config: str, cfg_options: dict | None = None, clip: dict | None = None, num_classes: int | None = None
) -> Config:
    """Return the config of a ZegFormer for random weights, in fusion mode ``full``.

    Args:
        config (str): A config file, or its name in ``configs``.
        cfg_options (dict, optional): Changed fields, ``a.b`` -> value.
        clip (dict, optional): The CLIP of classifier and scorer. Defaults to the config's.
        num_classes (int, optional): Number of made-up classes that replace the config's, a tenth of them unseen.

    Raises:
        FileNotFoundError: No such config.
        ValueError: The config is of another model.
    """
    cfg = read_config(config, cfg_options)
    if cfg.model.type != 'mmzeg.ZegFormer':
        raise ValueError(f'{config}: {cfg.model.type} has no stages to measure: give it as --baselines')
    cfg.model.backbone.init_cfg = None
    cfg.model.fusion = dict(cfg.model.get('fusion') or {}, mode='full')
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


def read_any_config(config: str) -> Config:
    """Return a config by its file, its name in ``configs``, or ``mmseg::PATH`` for one of mmseg's own."""
    # MMEngine's reader of such names knows mmseg by its package name in the official stack only.
    if config.startswith('mmseg::'):
        config = Path(mmseg.__file__).parent / '.mim/configs' / config.removeprefix('mmseg::')
    return read_config(config)


def config_stem(config: str) -> str:
    """Return the name of a config file without folder and suffix."""
    return Path(config.replace('::', '/')).stem
