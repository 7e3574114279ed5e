"""The cases of the inference benchmark: models with random weights, each with several scorers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmseg.registry import MODELS
from torch import nn

from mmzeg.benchmarking.inference_variants import DEFAULT_VARIANTS, build_variant, fits
from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.benchmarking.operation_count import OperationCount
from mmzeg.benchmarking.random_models import clip_name, config_stem, random_zegformer_config
from mmzeg.benchmarking.repeats import Measurement
from mmzeg.models.execution import Execution
from mmzeg.models.scorers import BaseScorer
from mmzeg.utils.config_files import read_config


@dataclass(frozen=True)
class InferenceOptions:
    """What is measured.

    Args:
        configs (Sequence[str]): Configs of ZegFormers; their weights are random.
        variants (Sequence[str]): Names in ``inference_variants.VARIANTS``, each measured with every config and CLIP
            that it fits.
        other_configs (Sequence[str]): Configs of other segmentors, for comparison.
        batch_size (int): Images per batch.
        image_size (tuple[int, int]): Height and width of the random images, as the network gets them.
        original_size (tuple[int, int], optional): Height and width of the label map. Defaults to ``image_size``.
        executions (Sequence[str]): Modes of ``mmzeg.models.Execution``, each measured with every variant.
        num_empty_masks (Sequence[int]): Each variant is measured with each of these numbers of empty masks.
        trained (tuple[str, str], optional): Config and checkpoint of a trained model, whose segments replace those of
            the random weights.
        random_clips (Sequence[str]): open_clip architectures of CLIPs with random weights. Empty: the configs' CLIPs.
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
    variants: Sequence[str] = DEFAULT_VARIANTS
    other_configs: Sequence[str] = ()
    batch_size: int = 1
    image_size: tuple[int, int] = (640, 853)
    original_size: tuple[int, int] | None = None
    executions: Sequence[str] = ('auto',)
    num_empty_masks: Sequence[int] = (0,)
    trained: tuple[str, str] | None = None
    random_clips: Sequence[str] = ()
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

    ``scorer``, ``execution`` and ``num_empty`` are None for another segmentor than ZegFormer, and ``clip``, the name of
    the scorer's CLIP, is empty.
    """

    config: str
    clip: str
    variant: str
    num_empty: int | None
    model: nn.Module
    scorer: BaseScorer | None
    execution: Execution | None = None
    measurement: Measurement = field(default_factory=Measurement)
    kernels: KernelCounter | None = None
    operations: OperationCount | None = None

    @property
    def label(self) -> str:
        """The case's name in progress messages."""
        mode = self.execution.mode if self.execution else ''
        return ' '.join(filter(None, (self.config, self.clip, self.variant, mode)))

    @property
    def is_reference(self) -> bool:
        """Whether the case computes everything as the released code does."""
        return self.variant == 'reference'


def build_cases(options: InferenceOptions, clips: Sequence[dict | None]) -> list[InferenceCase]:
    """Build the models and scorers of all cases.

    Args:
        options (InferenceOptions): What is measured.
        clips (Sequence[dict | None]): Configs of random CLIPs. None: each config's own.

    Raises:
        ValueError: No variant fits a config.
    """
    cases = []
    for config in options.configs:
        config_cases = [case for clip in clips for case in _zegformer_cases(config, options, clip)]
        if not config_cases:
            names = ', '.join(clip['model'] for clip in clips if clip) or 'its CLIP'
            raise ValueError(
                f'--variants {" ".join(options.variants)}: none fits {config} with {names}: see docs/en/scorers.md'
            )
        cases.extend(config_cases)
    for config in options.other_configs:
        cfg = read_config(config, options.other_cfg_options)
        cfg.model.pretrained = None
        cfg.model.test_cfg = dict(mode='whole')
        torch.manual_seed(options.seed)
        model = MODELS.build(cfg.model).to(options.device).eval()
        cases.append(InferenceCase(config_stem(config), '', '', None, model, None))
    return cases


def _zegformer_cases(config: str, options: InferenceOptions, clip: dict | None) -> list[InferenceCase]:
    """Build the cases of a ZegFormer with one CLIP; none if no variant fits."""
    cfg = random_zegformer_config(config, options.cfg_options, clip, options.num_classes)
    variants = [variant for variant in options.variants if fits(variant, cfg.model)]
    if not variants:
        return []
    torch.manual_seed(options.seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(options.device).eval()
    cases = []
    for variant in variants:
        scorer = build_variant(variant, cfg.model.scorer, options.precision)
        name = clip_name(cfg.model.scorer.clip)
        for execution in map(Execution, options.executions):
            for num_empty in options.num_empty_masks:
                cases.append(InferenceCase(config_stem(config), name, variant, num_empty, model, scorer, execution))
    return cases
