"""Cases, stages and rows of the inference benchmark; tests/test_tools/test_speed_tools.py runs it completely."""

import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from tiny_clips import CONVNEXT, RESNET, TEXT, VIT, write_clip

from mmzeg.benchmarking.gpu_report.options import SAN, SMALL
from mmzeg.benchmarking.inference_benchmark import (
    embed_class_names,
    result_rows,
    result_table,
    run_inference_benchmark,
)
from mmzeg.benchmarking.inference_cases import InferenceCase, InferenceOptions
from mmzeg.benchmarking.inference_variants import SCORER_FILES, VARIANTS, build_variant, fits
from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.benchmarking.repeats import Measurement
from mmzeg.models import (
    CLIPCropScorer,
    CLIPDensePoolScorer,
    CLIPMaskPromptScorer,
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


@pytest.mark.parametrize(
    'vision, files',
    [
        (VIT, {'ip_clip', 'last_layer', 'all_layers', 'mask_prompts', 'naclip', 'clear_clip'}),
        (CONVNEXT, {'fc_clip_convnext'}),
        (RESNET, {'fc_clip_resnet'}),
    ],
)
def test_scorer_files_fit_their_clip(tmp_path, vision, files):
    scorer = dict(type='mmzeg.CLIPCropScorer', clip=write_clip(tmp_path, vision), prompts='single')
    model = ConfigDict(backbone=dict(type='ResNet'), scorer=scorer)
    fitting = {variant for variant in VARIANTS if fits(variant, model)}
    assert fitting == (set(VARIANTS) - set(SCORER_FILES)) | files
    # Scorers that do not crop have no variants of crops, and a vision transformer is no backbone.
    model.scorer.type = 'mmzeg.CLIPDensePoolScorer'
    assert {variant for variant in VARIANTS if fits(variant, model)} == files | {'one-pass'}
    model.backbone = dict(type='mmzeg.CLIPBackbone', clip=model.scorer.clip)
    assert any(fits(variant, model) for variant in VARIANTS) == (vision is not VIT)


def test_every_scorer_file_is_a_variant(clip):
    names = {path.stem for path in (ROOT / 'configs/_base_/scorers').glob('*.py')}
    assert names == set(SCORER_FILES)
    config = dict(type='mmzeg.CLIPCropScorer', clip=clip, prompts='single')
    scorers = {name: build_variant(name, config, 'bf16') for name in names}
    assert type(scorers['ip_clip']) is CLIPMaskScorer and scorers['ip_clip'].input_sizes == [(480, 480)]
    assert scorers['last_layer'].num_masked_layers == 1 and type(scorers['mask_prompts']) is CLIPMaskPromptScorer
    assert type(scorers['naclip']) is CLIPDensePoolScorer and scorers['naclip'].last_attention == 'key-key'
    assert all(scorer.prompts == 'single' and scorer.clip.precision == 'bf16' for scorer in scorers.values())


@pytest.fixture
def small_architectures(tmp_path):
    """Register two architectures of open_clip and return their names."""
    names = []
    for name, vision in (('cost-vit', VIT), ('cost-convnext', CONVNEXT)):
        config = dict(embed_dim=48, vision_cfg=vision, text_cfg=dict(TEXT, context_length=77))
        (tmp_path / f'{name}.json').write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / f'{name}.json')
        names.append(name)
    yield names
    # Forget them.
    for name in names:
        open_clip.factory._MODEL_CONFIGS.pop(name)


def test_cost_of_every_scorer_in_one_run(small_architectures):
    """Crops, IP-CLIP, last layer, mask prompts, FC-CLIP with its own and with a shared backbone, and SAN."""
    options = InferenceOptions(
        configs=('zegformer_r50_coco', 'zegformer_clip-convnext-l_coco'),
        variants=('exact', 'ip_clip', 'last_layer', 'mask_prompts', 'fc_clip_convnext'),
        other_configs=(SAN,),
        other_cfg_options=SMALL.san_options,
        random_clips=small_architectures,
        image_size=(64, 90),
        num_classes=10,
        repeats=1,
        cfg_options={'model.decode_head.num_queries': 6, 'model.decode_head.transformer_decoder.num_layers': 2},
    )
    rows = run_inference_benchmark(options)
    by_case = {(row['config'].split('_')[1][:4], row['clip'], row['variant']): row for row in rows[:-1]}
    assert list(by_case) == [
        ('r50', 'cost-vit', 'exact'),
        ('r50', 'cost-vit', 'ip_clip'),
        ('r50', 'cost-vit', 'last_layer'),
        ('r50', 'cost-vit', 'mask_prompts'),
        ('r50', 'cost-convnext', 'exact'),
        ('r50', 'cost-convnext', 'fc_clip_convnext'),
        ('clip', 'cost-convnext', 'fc_clip_convnext'),
    ]
    assert all(row['seconds'] > 0 and row['gflop'] > 0 and row['mib'] >= 0 for row in rows)
    # The backbone gets the padded image; CLIP gets crops, the squashed image, the image at its size, or the backbone's.
    inputs = {case: row['inputs'] for case, row in by_case.items()}
    assert inputs['r50', 'cost-vit', 'ip_clip'] == '1 x 480 x 480, 1 x 64 x 96'
    assert inputs['r50', 'cost-vit', 'last_layer'] == '2 x 64 x 96'
    assert inputs['r50', 'cost-convnext', 'fc_clip_convnext'] == '1 x 64 x 96, 1 x 64 x 90'
    assert inputs['clip', 'cost-convnext', 'fc_clip_convnext'] == '1 x 64 x 96'
    for clip, size in (('cost-vit', '64 x 64'), ('cost-convnext', '96 x 96')):
        number, _, crops = inputs['r50', clip, 'exact'].replace('1 x 64 x 96', '').strip(', ').partition(' x ')
        assert 1 <= int(number) <= 6 and crops == size
    # SAN's adapter gets the image, and its CLIP half of each side.
    assert rows[-1]['clip'] == '' and rows[-1]['inputs'] == '1 x 64 x 96, 1 x 32 x 48'
    # CLIP's own operations make the difference: all layers are the same but the masks.
    gflop = {case: row['gflop'] for case, row in by_case.items()}
    assert gflop['r50', 'cost-vit', 'ip_clip'] > gflop['r50', 'cost-vit', 'last_layer']
    table = result_table(rows).get_string()
    assert 'cost-vit' in table and 'mask_prompts' in table and '1 x 480 x 480' in table


def test_no_fitting_variant_is_named(small_architectures):
    options = InferenceOptions(['zegformer_r50_coco'], ['ip_clip', 'naclip'], random_clips=small_architectures[1:])
    with pytest.raises(ValueError, match='--variants ip_clip naclip: none fits zegformer_r50_coco with cost-convnext'):
        run_inference_benchmark(options)


def test_ratios_refer_to_the_reference_with_as_many_empty_masks():
    def case(variant, num_empty, seconds, scorer):
        measurement = Measurement([seconds], [dict(CLIP=seconds)], [1.0])
        return InferenceCase('r50', 'clip', variant, num_empty, None, scorer, measurement=measurement)

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
