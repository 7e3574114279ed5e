"""The cases of the inference benchmark: models with random weights, each with several scorers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmseg.registry import MODELS
from torch import nn

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.benchmarking.random_models import config_stem, random_zegformer_config
from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.benchmarking.repeats import Measurement
from mmzeg.models.execution import Execution
from mmzeg.models.scorers import BaseScorer, build_scorer
from mmzeg.utils.config_files import read_config

# Changed fields of a config's scorer. `reference` is the way of the released code, see ReferenceScorer; `one-pass` is
# another scorer.
VARIANTS: dict[str, dict] = {
    'reference': {},
    'exact': {},
    'guaranteed': dict(pruning=dict(type='mmzeg.GuaranteedPruning')),
    'merged': dict(merge_iou_thr=0.4),
    'threshold': dict(merge_iou_thr=0.4, pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.5, min_coverage=0.4)),
    'one-pass': {},
}


@dataclass(frozen=True)
class InferenceOptions:
    """What is measured.

    Args:
        configs (Sequence[str]): Configs of ZegFormers; their weights are random.
        variants (Sequence[str]): Names in ``VARIANTS``, each measured with every config.
        other_configs (Sequence[str]): Configs of other segmentors, for comparison.
        batch_size (int): Images per batch.
        image_size (tuple[int, int]): Height and width of the random images, as the network gets them.
        original_size (tuple[int, int], optional): Height and width of the label map. Defaults to ``image_size``.
        executions (Sequence[str]): Modes of ``mmzeg.models.Execution``, each measured with every variant.
        num_empty_masks (Sequence[int]): Each variant is measured with each of these numbers of empty masks.
        trained (tuple[str, str], optional): Config and checkpoint of a trained model, whose segments replace those of
            the random weights.
        random_clip (str, optional): open_clip architecture of a CLIP with random weights. Default: the config's CLIP.
        precision (str, optional): Precision of CLIP, except in the reference.
        num_classes (int, optional): Number of made-up classes. Defaults to the config's classes.
        repeats (int): Repeats that count.
        warmups (int): Repeats before them, which warm up.
        seed (int): Of weights and images.
        device (str): ``cpu`` or ``cuda``.
        cfg_options (dict, optional): Changed fields of ``configs``.
        other_cfg_options (dict, optional): Changed fields of ``other_configs``.
    """

    configs: Sequence[str]
    variants: Sequence[str] = tuple(VARIANTS)
    other_configs: Sequence[str] = ()
    batch_size: int = 1
    image_size: tuple[int, int] = (640, 853)
    original_size: tuple[int, int] | None = None
    executions: Sequence[str] = ('auto',)
    num_empty_masks: Sequence[int] = (0,)
    trained: tuple[str, str] | None = None
    random_clip: str | None = None
    precision: str | None = None
    num_classes: int | None = None
    repeats: int = 3
    warmups: int = 1
    seed: int = 0
    device: str = 'cpu'
    cfg_options: dict | None = None
    other_cfg_options: dict | None = None


@dataclass
class InferenceCase:
    """One row: a model; the scorer, execution and number of empty masks with which it is measured; the measurement.

    ``scorer``, ``execution`` and ``num_empty`` are None for another segmentor than ZegFormer.
    """

    config: str
    variant: str
    num_empty: int | None
    model: nn.Module
    scorer: BaseScorer | None
    execution: Execution | None = None
    measurement: Measurement = field(default_factory=Measurement)
    kernels: KernelCounter | None = None

    @property
    def label(self) -> str:
        """The case's name in progress messages."""
        mode = self.execution.mode if self.execution else ''
        return f'{self.config} {self.variant} {mode}'.strip()

    @property
    def is_reference(self) -> bool:
        """Whether the case computes everything as the released code does."""
        return self.variant == 'reference'


def build_cases(options: InferenceOptions, clip: dict | None) -> list[InferenceCase]:
    """Build the models and scorers of all cases; ``clip`` is the config of a random CLIP."""
    cases = []
    for config in options.configs:
        cfg = random_zegformer_config(config, options.cfg_options, clip, options.num_classes)
        torch.manual_seed(options.seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.to(options.device).eval()
        for variant in options.variants:
            scorer = build_variant(variant, cfg.model.scorer, options.precision)
            for execution in map(Execution, options.executions):
                for num_empty in options.num_empty_masks:
                    cases.append(InferenceCase(config_stem(config), variant, num_empty, model, scorer, execution))
    for config in options.other_configs:
        cfg = read_config(config, options.other_cfg_options)
        cfg.model.pretrained = None
        cfg.model.test_cfg = dict(mode='whole')
        torch.manual_seed(options.seed)
        model = MODELS.build(cfg.model).to(options.device).eval()
        cases.append(InferenceCase(config_stem(config), '', None, model, None))
    return cases


def build_variant(variant: str, scorer: dict, precision: str | None) -> BaseScorer:
    """Build the scorer of a variant from a config's scorer; ``precision`` is CLIP's, except in the reference."""
    scorer = dict(scorer)
    if variant == 'reference':
        return ReferenceScorer(build_scorer(scorer))
    if precision:
        scorer['clip'] = dict(scorer['clip'], precision=precision)
    if variant == 'one-pass':
        # Masks as attention masks need a vision transformer of open_clip's own.
        vision = MODELS.build(scorer['clip']).config['vision_cfg']
        is_transformer = isinstance(vision.get('layers', 12), int) and 'timm_model_name' not in vision
        one_pass = 'mmzeg.CLIPMaskScorer' if is_transformer else 'mmzeg.CLIPDensePoolScorer'
        return build_scorer(dict(type=one_pass), like=scorer)
    return build_scorer(dict(scorer, **VARIANTS[variant]))
