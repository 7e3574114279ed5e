"""build_scorer refuses what is no scorer, and completes the configs of CLIP scorers only."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS as MMSEG_MODELS

from mmzeg.models.scorers import BaseScorer, CLIPMaskScorer, build_scorer
from mmzeg.registry import MODELS

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)
LIKE = dict(type='mmzeg.CLIPCropScorer', clip=CLIP, prompts='single', crop_mode='crop')


class ConstantScorer(BaseScorer):
    """Give every class of every segment the same logit."""

    def encode(self, image, mask_logits, valid_size):
        return torch.zeros(len(mask_logits), 1)

    def classify(self, embeddings, vocabulary):
        return embeddings.expand(-1, len(vocabulary))


@pytest.mark.parametrize('scorer', [dict(type='mmzeg.NoSuchScorer'), dict(type='NoSuchScorer'), dict(clip=CLIP)])
def test_an_unregistered_type_is_refused(scorer):
    with pytest.raises(ValueError, match=f'scorer type {scorer.get("type")!r} is not registered'):
        build_scorer(scorer)


@pytest.mark.parametrize('cls', ['mmzeg.ScoreFusion', torch.nn.Linear, print])
def test_a_class_that_is_no_scorer_is_refused(cls):
    with pytest.raises(ValueError, match='must be a subclass of mmzeg.models.scorers.BaseScorer'):
        build_scorer(dict(type=cls))


def test_a_model_refuses_a_scorer_of_another_class(world):
    world.scorer = dict(type='mmzeg.ScoreFusion')
    with pytest.raises(ValueError, match='must be a subclass'):
        MODELS.build(world)


def test_a_scorer_in_mmsegs_registry_is_built_in_its_scope():
    MMSEG_MODELS.register_module(name='RegisteredScorer', module=ConstantScorer, force=True)
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert isinstance(build_scorer(dict(type='RegisteredScorer')), ConstantScorer)


def test_a_clip_scorer_takes_clip_and_prompts_from_another_config():
    config = dict(type='mmzeg.CLIPMaskScorer', num_masked_layers=2)
    scorer = build_scorer(config, like=LIKE)
    assert isinstance(scorer, CLIPMaskScorer) and scorer.num_masked_layers == 2
    assert scorer.clip.pretrained == CLIP['pretrained'] and scorer.prompts == 'single'
    assert config == dict(type='mmzeg.CLIPMaskScorer', num_masked_layers=2)


def test_given_fields_win():
    given_clip = dict(CLIP, precision='bf16')
    scorer = build_scorer(dict(type=CLIPMaskScorer, clip=given_clip, prompts='imagenet_select'), like=LIKE)
    assert scorer.clip.precision == 'bf16' and scorer.prompts == 'imagenet_select'


def test_a_scorer_without_clip_takes_nothing_from_another_config():
    scorer = build_scorer(dict(type=ConstantScorer, merge_iou_thr=0.8), like=LIKE)
    assert isinstance(scorer, ConstantScorer) and scorer.merge_iou_thr == 0.8
    assert not hasattr(scorer, 'clip') and not hasattr(scorer, 'prompts')


def test_a_clip_scorer_of_another_config_without_clip_needs_its_own():
    with pytest.raises(TypeError, match='clip'):
        build_scorer(dict(type='mmzeg.CLIPMaskScorer'), like=dict(type=ConstantScorer))
