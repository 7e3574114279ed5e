"""Model configs of golden cases of the released code, every size from ``case.json``."""

import json
import tempfile
from pathlib import Path

import open_clip

from mmzeg.clip.loading import openai_config
from mmzeg.utils.weight_files import read_state

CLIP_WEIGHTS = 'clip_openai_format.safetensors'
# Fusion and crop mode of every mode in which a case was tested.
MODES = {
    'full': dict(mode='full'),
    'full_gamma0': dict(mode='full', gamma=0.0),
    'seg': dict(mode='seg'),
    'img': dict(mode='img'),
    'all_cls': dict(mode='unseen'),
    'full_crop': dict(mode='full', crop_mode='crop'),
    'full_mask': dict(mode='full', crop_mode='mask'),
}


def zegformer_config(settings: dict, folder: Path, tau: float) -> dict:
    """Return the config of a case's ZegFormer.

    Args:
        settings (dict): Content of ``case.json``.
        folder (Path): The case, for CLIP's weights.
        tau (float): Temperature of the classifier.
    """
    width = settings['hidden']
    clip = _clip_config(folder)
    attention = dict(embed_dims=width, num_heads=settings['heads'], dropout=0.0)
    layer = dict(
        self_attn_cfg=dict(attention),
        cross_attn_cfg=dict(attention),
        ffn_cfg=dict(embed_dims=width, feedforward_channels=settings['ffn']),
    )
    match_costs = [
        dict(type='mmdet.ClassificationCost', weight=1.0),
        dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
        dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
    ]
    return _base_config(settings) | dict(
        type='mmzeg.ZegFormer',
        decode_head=dict(
            type='mmzeg.ZegFormerHead',
            feat_channels=width,
            out_channels=width,
            num_queries=settings['queries'],
            pixel_decoder=dict(type='mmdet.PixelDecoder'),
            transformer_decoder=dict(num_layers=settings['dec'], layer_cfg=layer),
            positional_encoding=dict(num_feats=width // 2, normalize=True),
            classifier=_classifier_config(settings, clip, tau),
            assigner=dict(type='mmzeg.HungarianAssigner', match_costs=match_costs),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', loss_weight=1.0),
            loss_mask=dict(type='mmdet.FocalLoss', gamma=2.0, alpha=0.25, loss_weight=20.0),
            loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=1.0),
        ),
        scorer=dict(type='mmzeg.CLIPCropScorer', clip=clip),
        fusion=dict(mode='full', gamma=0.1),
    )


def per_pixel_config(settings: dict, folder: Path, tau: float) -> dict:
    """Return the config of a case's per-pixel baseline; arguments as of ``zegformer_config``."""
    return _base_config(settings) | dict(
        type='mmzeg.PerPixelSegmentor',
        decode_head=dict(
            type='mmzeg.PerPixelHead',
            feat_channels=settings['hidden'],
            out_channels=settings['hidden'],
            pixel_decoder=dict(type='mmdet.PixelDecoder'),
            classifier=_classifier_config(settings, _clip_config(folder), tau),
            loss_cls=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ),
    )


def _base_config(settings: dict) -> dict:
    """Return preprocessor, backbone and test mode, which all models of released cases share."""
    return dict(
        data_preprocessor=dict(
            type='mmzeg.SegDataPreProcessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        backbone=dict(
            type='ResNet',
            depth=settings['depth'],
            base_channels=settings['base'],
            stem_channels=settings['base'],
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
        ),
        test_cfg=dict(mode='whole'),
    )


def _classifier_config(settings: dict, clip: dict, tau: float) -> dict:
    """Return the text classifier with the case's classes and prompts."""
    return dict(
        type='mmzeg.CLIPTextClassifier',
        text_encoder=clip,
        vocabulary=dict(classes=settings['order'], unseen=settings['unseen_names']),
        train_vocabulary=settings['seen_names'],
        train_prompts=settings['prompt'],
        test_prompts=settings['prompt'],
        tau=tau,
    )


def _clip_config(folder: Path) -> dict:
    """Return the case's CLIP."""
    weights = folder / CLIP_WEIGHTS
    return dict(type='mmzeg.CLIP', model=_register_clip(weights), pretrained=str(weights), precision='fp32')


def _register_clip(weights: Path) -> str:
    """Tell open_clip the architecture of a case's CLIP, and return its name.

    Sizes are read from the weights. These do not say the number of heads, which is 1 in every case, not one head per 64
    channels as in OpenAI's models.
    """
    config = openai_config(read_state(weights), weights)
    config['vision_cfg']['head_width'] = config['vision_cfg']['width']
    config['text_cfg']['heads'] = 1
    name = 'golden-case'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'{name}.json')
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
    return name
