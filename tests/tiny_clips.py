"""Tiny CLIPs with random weights, in files that ``mmzeg.CLIP`` loads."""

import json
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

TEXT = dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)
VIT = dict(image_size=64, layers=3, width=64, head_width=32, patch_size=16)
RESNET = dict(image_size=96, layers=[1, 1, 1, 1], width=16)
CONVNEXT = dict(timm_pool='', timm_proj='linear', image_size=96, timm_model_name='convnext_atto')


def write_clip(folder: Path, vision: dict, embed_dim: int = 48) -> dict:
    """Write weights and open_clip's config of a tiny CLIP, and return the config of ``mmzeg.CLIP``.

    Args:
        folder (Path): Where to write; one CLIP a folder.
        vision (dict): open_clip's ``vision_cfg``.
        embed_dim (int): Width of the joint space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(embed_dim=embed_dim, vision_cfg=vision, text_cfg=TEXT, quick_gelu=True)
    torch.manual_seed(0)
    network = CLIP(**config)
    statistics = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    sidecar = dict(model_cfg=config, preprocess_cfg=statistics)
    (folder / 'open_clip_config.json').write_text(json.dumps(sidecar))
    weights = folder / 'clip.safetensors'
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
    return dict(type='mmzeg.CLIP', pretrained=str(weights), cache_dir=str(folder / 'cache'))
