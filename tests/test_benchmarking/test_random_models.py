"""Configs for random weights."""

from pathlib import Path

import pytest

from mmzeg.benchmarking.random_models import config_stem, random_clip, random_zegformer_config
from mmzeg.utils.config_files import read_config


def test_made_up_classes_replace_those_of_training_too():
    cfg = random_zegformer_config('zegformer_r18_world_synonyms', num_classes=20)
    classifier = cfg.model.decode_head.classifier
    assert len(classifier.vocabulary.classes) == 20 and 'train_vocabulary' not in classifier
    assert len(classifier.vocabulary.unseen) == 2
    assert cfg.model.fusion.mode == 'full' and cfg.model.backbone.init_cfg is None


def test_a_config_of_pixels_is_refused():
    with pytest.raises(ValueError, match='give it as --baselines'):
        random_zegformer_config('per-pixel_r18_world')


def test_random_clip_exists_within_the_block_only():
    with random_clip(None, seed=0) as clip:
        assert clip is None
    with random_clip('RN50-quickgelu', seed=0) as clip:
        path = Path(clip['pretrained'])
        assert clip['type'] == 'mmzeg.CLIP' and path.is_file()
        cfg = random_zegformer_config('zegformer_r50_coco', clip=clip)
        assert cfg.model.scorer.clip == cfg.model.decode_head.classifier.text_encoder == clip
        cfg = random_zegformer_config('zegformer_clip-rn50_coco', clip=clip)
        assert cfg.model.scorer.clip == cfg.model.backbone.clip == clip
    assert not path.exists()
    with pytest.raises(ValueError, match='ViT-Z-9: no open_clip architecture'), random_clip('ViT-Z-9', seed=0):
        pass


def test_configs_of_mmseg():
    cfg = read_config('mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py')
    assert cfg.model.type == 'EncoderDecoder'
    assert config_stem('mmseg::fcn/fcn_r50.py') == 'fcn_r50' == config_stem('configs/fcn_r50.py')
