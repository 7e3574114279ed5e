"""Measure the test of one image by stages: configs with different scorers, interleaved in one run.

``tools/analysis_tools/benchmark.py`` is its command line.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from unittest.mock import patch

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch import Tensor, nn

from mmzeg.benchmarking.measurement import Measurement, measure_interleaved, prepare_benchmark, time_cells
from mmzeg.benchmarking.profiling import PeakMemory, Stopwatch
from mmzeg.benchmarking.random_models import config_stem, random_clip, random_zegformer_config, read_any_config
from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.benchmarking.segment_replacement import TrainedSegments, predict_segments, replace_segments
from mmzeg.clip import CLIP
from mmzeg.clip.text_cache import TextCache
from mmzeg.models import ScoreFusion, ZegFormer
from mmzeg.models.classifiers import CLIPTextClassifier
from mmzeg.models.scorers import BaseScorer, OnePassScorer, build_scorer

STAGES = ('data', 'backbone', 'head', 'crops', 'CLIP', 'pruning', 'fusion', 'map')
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
        image_size (tuple[int, int]): Height and width of the random image.
        num_empty_masks (Sequence[int]): Each variant is measured with each of these numbers of empty masks.
        trained (tuple[str, str], optional): Config and checkpoint of a trained model, whose segments replace those of
            the random weights.
        random_clip (str, optional): open_clip architecture of a CLIP with random weights. Default: the config's CLIP.
        precision (str, optional): Precision of CLIP, except in the reference.
        num_classes (int, optional): Number of made-up classes. Defaults to the config's classes.
        repeats (int): Repeats after one for warming up.
        seed (int): Of weights and image.
        device (str): ``cpu`` or ``cuda``.
        cfg_options (dict, optional): Changed fields of ``configs``.
    """

    configs: Sequence[str]
    variants: Sequence[str] = tuple(VARIANTS)
    other_configs: Sequence[str] = ()
    image_size: tuple[int, int] = (640, 853)
    num_empty_masks: Sequence[int] = (0,)
    trained: tuple[str, str] | None = None
    random_clip: str | None = None
    precision: str | None = None
    num_classes: int | None = None
    repeats: int = 3
    seed: int = 0
    device: str = 'cpu'
    cfg_options: dict | None = None


@dataclass
class InferenceCase:
    """One row: a model, the scorer and the number of empty masks with which it is measured, and the measurement.

    ``scorer`` and ``num_empty`` are None for another segmentor than ZegFormer.
    """

    config: str
    variant: str
    num_empty: int | None
    model: nn.Module
    scorer: BaseScorer | None
    measurement: Measurement = field(default_factory=Measurement)

    @property
    def label(self) -> str:
        """The case's name in progress messages."""
        return f'{self.config} {self.variant}'.strip()

    @property
    def is_reference(self) -> bool:
        """Whether the case computes everything as the released code does."""
        return self.variant == 'reference'


def run_inference_benchmark(options: InferenceOptions) -> list[dict]:
    """Measure all cases and return their rows, see ``result_rows``.

    Prints what embedding the class names takes, and progress on stderr.
    """
    device = prepare_benchmark(options.repeats, options.device)
    with random_clip(options.random_clip, options.seed) as clip:
        cases = build_cases(options, clip)
        # Segments of a trained model
        segments = None
        if options.trained:
            num_queries = [case.model.decode_head.query_embed.num_embeddings for case in cases if case.scorer]
            segments = predict_segments(*options.trained, max(num_queries))
        # Text embeddings, once per config
        classifiers = {case.config: case.model.decode_head.classifier for case in reversed(cases) if case.scorer}
        for config, classifier in classifiers.items():
            print(f'{config}: {embed_class_names(classifier, device)}', flush=True)
        # One random image
        generator = torch.Generator().manual_seed(options.seed)
        image = torch.randint(0, 256, (3, *options.image_size), dtype=torch.uint8, generator=generator)
        measure_interleaved(cases, lambda case: measure_test(case, image, segments, device), options.repeats)
    return result_rows(cases)


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
            for num_empty in options.num_empty_masks:
                cases.append(InferenceCase(config_stem(config), variant, num_empty, model, scorer))
    for config in options.other_configs:
        cfg = read_any_config(config)
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


@torch.inference_mode()
def measure_test(case: InferenceCase, image: Tensor, segments: TrainedSegments | None, device: torch.device) -> None:
    """Test an image (3, H, W) once and add to the case's measurement."""
    height, width = image.shape[-2:]
    size = (height, width)
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, pad_shape=size, img_path='random'))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width, dtype=torch.long))
    stopwatch = Stopwatch(device)
    # The semantic map is what remains of the test when the other stages are measured.
    with (
        _configured(case, segments),
        stopwatch.watch(stage_methods(case)),
        PeakMemory(device) as memory,
        stopwatch.stage('map'),
    ):
        case.model.test_step(dict(inputs=[image], data_samples=[sample]))
    case.measurement.add(stopwatch, memory)


def stage_methods(case: InferenceCase) -> dict[tuple[type, str], str]:
    """Return the methods whose calls are stages: (class, method name) -> stage."""
    if case.scorer is None:
        return {}
    methods = {
        (type(case.model.data_preprocessor), 'forward'): 'data',
        (ZegFormer, 'extract_feat'): 'backbone',
        (type(case.model.decode_head), 'forward'): 'head',
        (ScoreFusion, '__call__'): 'fusion',
        (type(case.scorer), 'score_segments'): 'crops',
        (CLIP, 'encode_image'): 'CLIP',
    }
    if isinstance(case.scorer, OnePassScorer):
        methods[type(case.scorer), '_encode_masks'] = 'CLIP'
    if case.scorer.pruning is not None:
        methods[type(case.scorer.pruning), '__call__'] = 'pruning'
    return methods


@contextmanager
def _configured(case: InferenceCase, segments: TrainedSegments | None) -> Iterator[None]:
    """Within the ``with`` block, the model has the case's scorer, and its head the case's segments."""
    if case.scorer is None:
        yield
        return
    model = case.model
    head = type(model.decode_head)
    head_forward = head.forward
    return_logits = model.test_cfg.get('return_logits', True)

    def forward(self: nn.Module, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        # The released code computes the masks of all layers.
        kwargs = {} if case.is_reference else kwargs
        class_logits, mask_logits = head_forward(self, *args, **kwargs)
        return replace_segments(class_logits, mask_logits, segments, case.num_empty)

    model.scorer = case.scorer
    with ExitStack() as stack:
        stack.callback(model.test_cfg.__setitem__, 'return_logits', return_logits)
        stack.enter_context(patch.object(head, 'forward', forward))
        if case.is_reference:
            # The released code makes the map of all classes, and its inputs are not channels-last.
            model.test_cfg.return_logits = True
            stack.enter_context(patch.object(ZegFormer, '_extract_features', _extract_plain_features))
        yield


def _extract_plain_features(model: ZegFormer, inputs: Tensor) -> tuple[Tensor, ...]:
    """Return backbone maps of inputs in the memory layout that they have."""
    return model.extract_feat(inputs)


@torch.inference_mode()
def embed_class_names(classifier: CLIPTextClassifier, device: torch.device) -> str:
    """Compute the text embeddings of a classifier's class names, and return the time and memory in words."""
    with ExitStack() as stack:
        if isinstance(classifier.text_encoder, CLIP):
            # Load CLIP before, and use no embedding that was cached earlier.
            with classifier.text_encoder.on(device):
                pass
            empty_cache = TextCache(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(patch.object(classifier.text_encoder, '_cache', empty_cache))
        with PeakMemory(device) as memory:
            start = time.perf_counter()
            classifier.text_embeddings(training=False)
            seconds = time.perf_counter() - start
    return f'{len(classifier.vocabulary)} class names embedded: {seconds:.1f} s, {memory.mib:.0f} MiB'


def result_rows(cases: Sequence[InferenceCase]) -> list[dict]:
    """Return a row per case for JSON.

    ``ratio`` is how many times faster than the reference a case is, None without a reference; ``stages`` are seconds.
    """
    references = {(case.config, case.num_empty): case.measurement for case in cases if case.is_reference}
    rows = []
    for case in cases:
        measurement = case.measurement
        reference = references.get((case.config, case.num_empty))
        stages = {stage: measurement.stage_seconds(stage) for stage in STAGES}
        row = dict(config=case.config, variant=case.variant, empties=case.num_empty, **measurement.row())
        row['images_per_second'] = 1 / median(measurement.seconds)
        row['ratio'] = measurement.speedup_over(reference) if reference else None
        row['stages'] = stages if case.scorer else None
        rows.append(row)
    return rows


def result_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows as a table."""
    table = PrettyTable(
        ['config', 'variant', 'empty', 's', 'range', 'image/s', 'x reference', 'peak MiB', *STAGES], align='r'
    )
    for row in rows:
        stages = row['stages']
        table.add_row(
            [
                row['config'],
                row['variant'],
                '' if row['empties'] is None else row['empties'],
                *time_cells(row),
                f'{row["images_per_second"]:.3g}',
                f'{row["ratio"]:.2f}' if row['ratio'] else '',
                f'{row["mib"]:.0f}',
                *(f'{stages[stage]:.2f}' if stages else '' for stage in STAGES),
            ]
        )
    return table
