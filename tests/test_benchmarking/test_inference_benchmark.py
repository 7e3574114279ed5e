"""Cases, stages and rows of the inference benchmark; tests/test_tools/test_speed_tools.py runs it completely."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmseg.registry import MODELS

from mmzeg.benchmarking.inference_benchmark import embed_class_names, result_rows
from mmzeg.benchmarking.inference_cases import InferenceCase, build_variant
from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.benchmarking.repeats import Measurement
from mmzeg.models import (
    CLIPCropScorer,
    CLIPDensePoolScorer,
    CLIPMaskScorer,
    GuaranteedPruning,
    ThresholdPruning,
)

ROOT = Path(__file__).parents[2]
WORLD_CLIP = ROOT / 'configs/_base_/models/world_clip/open_clip_model.safetensors'
VISION_TRANSFORMER = ROOT / 'tests/data/golden/r50_single/clip_openai_format.safetensors'


@pytest.fixture
def clip(tmp_path):
    return dict(type='mmzeg.CLIP', pretrained=str(WORLD_CLIP), cache_dir=str(tmp_path))


def test_class_names_are_embedded_and_not_read_from_the_cache(tmp_path, clip):
    classifier = MODELS.build(dict(type='mmzeg.CLIPTextClassifier', in_channels=8, text_encoder=clip, vocabulary=['a']))
    message = embed_class_names(classifier, torch.device('cpu'))
    assert message.startswith('1 class names embedded: ') and not list(tmp_path.iterdir())


def test_variants_change_the_configs_scorer(clip):
    config = dict(type='mmzeg.CLIPCropScorer', clip=clip, prompts='single', mask_dilation=2)
    reference = build_variant('reference', config, 'bf16')
    assert isinstance(reference, ReferenceScorer) and reference.scorer.mask_dilation == 2
    scorers = {name: build_variant(name, config, None) for name in ('exact', 'guaranteed', 'merged', 'threshold')}
    assert all(type(scorer) is CLIPCropScorer and scorer.mask_dilation == 2 for scorer in scorers.values())
    assert scorers['exact'].pruning is scorers['merged'].pruning is None
    assert isinstance(scorers['guaranteed'].pruning, GuaranteedPruning)
    assert isinstance(scorers['threshold'].pruning, ThresholdPruning)
    assert scorers['merged'].merge_iou_thr == scorers['threshold'].merge_iou_thr == 0.4


@pytest.mark.parametrize(
    'weights, scorer_type', [(WORLD_CLIP, CLIPDensePoolScorer), (VISION_TRANSFORMER, CLIPMaskScorer)]
)
def test_one_pass_scorer_for_each_kind_of_clip(clip, weights, scorer_type):
    config = dict(type='mmzeg.CLIPCropScorer', clip=dict(clip, pretrained=str(weights)), prompts='single')
    scorer = build_variant('one-pass', config, None)
    assert type(scorer) is scorer_type and scorer.prompts == 'single'


def test_ratios_refer_to_the_reference_with_as_many_empty_masks():
    def case(variant, num_empty, seconds, scorer):
        measurement = Measurement([seconds], [dict(CLIP=seconds)], [1.0])
        return InferenceCase('r50', variant, num_empty, None, scorer, measurement=measurement)

    scorer = SimpleNamespace()
    rows = result_rows(
        [
            case('reference', 0, 8.0, scorer),
            case('exact', 0, 2.0, scorer),
            case('reference', 60, 8.0, scorer),
            case('exact', 60, 1.0, scorer),
            case('', None, 4.0, None),
        ]
    )
    assert [row['ratio'] for row in rows] == [1.0, 4.0, 1.0, 8.0, None]
    assert rows[3]['images_per_second'] == 1.0 and rows[3]['stages']['CLIP'] == 1.0 and rows[4]['stages'] is None
    assert [row['empties'] for row in rows] == [0, 0, 60, 60, None]
