"""The variants of the inference benchmark: which scorer each builds, and for which models and CLIPs."""

from collections.abc import Mapping

from mmseg.registry import MODELS

from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.models.scorers import BaseScorer, CLIPCropScorer, build_scorer
from mmzeg.utils.config_files import read_config

# Changed fields of a config's scorer, which must crop. ``reference`` is the way of the released code, see
# ReferenceScorer.
CROP_VARIANTS: dict[str, dict] = {
    'reference': {},
    'exact': {},
    'guaranteed': dict(pruning=dict(type='mmzeg.GuaranteedPruning')),
    'merged': dict(merge_iou_thr=0.4),
    'threshold': dict(merge_iou_thr=0.4, pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.5, min_coverage=0.4)),
}
# The one-pass scorer that docs/en/scorers.md recommends for a CLIP.
ONE_PASS = 'one-pass'
# Files in configs/_base_/scorers -> the kinds of CLIP that they are for, see ``clip_kind``.
SCORER_FILES = {
    'ip_clip': ('transformer',),
    'last_layer': ('transformer',),
    'all_layers': ('transformer',),
    'mask_prompts': ('transformer',),
    'naclip': ('transformer',),
    'clear_clip': ('transformer',),
    'fc_clip_convnext': ('convnext',),
    'fc_clip_resnet': ('resnet',),
}
DEFAULT_VARIANTS = (*CROP_VARIANTS, ONE_PASS)
VARIANTS = (*DEFAULT_VARIANTS, *SCORER_FILES)


def clip_kind(clip: dict) -> str:
    """Return the kind of a CLIP's image encoder: ``transformer`` (open_clip's), ``resnet``, ``convnext`` or ``timm``.

    Args:
        clip (dict): ``mmzeg.CLIP``.
    """
    vision = MODELS.build(clip).config['vision_cfg']
    if 'timm_model_name' in vision:
        return 'convnext' if vision['timm_model_name'].startswith('convnext') else 'timm'
    return 'transformer' if isinstance(vision.get('layers', 12), int) else 'resnet'


def fits(variant: str, model: Mapping) -> bool:
    """Return whether a variant can be measured with a model.

    Args:
        variant (str): One of ``VARIANTS``.
        model (Mapping): The config of a ZegFormer with a scorer.
    """
    backbone = model['backbone']
    scorer = model['scorer']
    # A vision transformer has no maps of four sizes.
    if backbone['type'] == 'mmzeg.CLIPBackbone' and clip_kind(backbone['clip']) == 'transformer':
        return False
    if variant in CROP_VARIANTS:
        return isinstance(build_scorer(scorer), CLIPCropScorer)
    return variant == ONE_PASS or clip_kind(scorer['clip']) in SCORER_FILES[variant]


def build_variant(variant: str, scorer: dict, precision: str | None) -> BaseScorer:
    """Build the scorer of a variant from a config's scorer.

    Args:
        variant (str): One of ``VARIANTS``.
        scorer (dict): The config's scorer.
        precision (str, optional): Precision of CLIP, except in the reference.
    """
    scorer = dict(scorer)
    if variant == 'reference':
        return ReferenceScorer(build_scorer(scorer))
    if precision:
        scorer['clip'] = dict(scorer['clip'], precision=precision)
    if variant in CROP_VARIANTS:
        return build_scorer(dict(scorer, **CROP_VARIANTS[variant]))
    if variant == ONE_PASS:
        # Masks as attention masks need a vision transformer of open_clip's own.
        is_transformer = clip_kind(scorer['clip']) == 'transformer'
        one_pass = 'mmzeg.CLIPMaskScorer' if is_transformer else 'mmzeg.CLIPDensePoolScorer'
        return build_scorer(dict(type=one_pass), like=scorer)
    return build_scorer(read_config(f'_base_/scorers/{variant}').scorer.to_dict(), like=scorer)
