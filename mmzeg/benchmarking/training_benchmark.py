"""Measure a training iteration: configs and ways to train them, interleaved in one run.

``tools/analysis_tools/benchmark_training.py`` is its command line.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch import Tensor, nn

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.benchmarking.random_models import config_stem, random_clip, random_zegformer_config
from mmzeg.benchmarking.repeats import Measurement, measure_interleaved, prepare_benchmark, time_cells
from mmzeg.benchmarking.time_and_memory import PeakMemory, Stopwatch
from mmzeg.utils.config_files import read_config

WAYS = ('plain', 'checkpointing', 'amp', 'compile')
FORWARD, BACKWARD = 'forward and losses', 'backward'
# Side of a block of one class in the random label maps, in pixels.
BLOCK_SIZE = 64


@dataclass(frozen=True)
class TrainingOptions:
    """What is measured.

    Args:
        configs (Sequence[str]): Configs of ZegFormers; their weights are random.
        ways (Sequence[str]): How these are trained, each of ``WAYS``: as the config says, with gradient checkpointing,
            in bfloat16, or compiled.
        other_configs (Sequence[str]): Configs of other segmentors, for comparison.
        crop_size (tuple[int, int]): Height and width of the images.
        batch_size (int): Images per iteration.
        num_classes (int, optional): Number of made-up classes. Defaults to the config's classes.
        classes_per_image (int): Classes in an image's label map.
        random_clip (str, optional): open_clip architecture of a CLIP with random weights. Default: the config's CLIP.
        repeats (int): Repeats after one for warming up.
        seed (int): Of weights, images and labels.
        device (str): ``cpu`` or ``cuda``.
        cfg_options (dict, optional): Changed fields of all configs.
    """

    configs: Sequence[str]
    ways: Sequence[str] = ('plain',)
    other_configs: Sequence[str] = ()
    crop_size: tuple[int, int] = (512, 512)
    batch_size: int = 2
    num_classes: int | None = None
    classes_per_image: int = 6
    random_clip: str | None = None
    repeats: int = 3
    seed: int = 0
    device: str = 'cpu'
    cfg_options: dict | None = None


@dataclass
class TrainingCase:
    """One row: a model, how it is trained, and the measurement."""

    config: str
    way: str
    model: nn.Module
    measurement: Measurement = field(default_factory=Measurement)

    @property
    def label(self) -> str:
        """The case's name in progress messages."""
        return f'{self.config} {self.way}'.strip()


def run_training_benchmark(options: TrainingOptions) -> tuple[list[dict], str]:
    """Measure all cases; reports progress on stderr.

    Returns:
        tuple: Rows, see ``result_rows``, and the name of the config to which their ratios refer: the last of the other
        segmentors, else the first config.
    """
    device = prepare_benchmark(options.repeats, options.device)
    with random_clip(options.random_clip, options.seed) as clip:
        cases = build_cases(options, clip)
        batch = random_batch(options)
        measure_interleaved(cases, lambda case: measure_iteration(case, batch, device), options.repeats)
    baseline = cases[-1] if options.other_configs else cases[0]
    return result_rows(cases, baseline), baseline.config


def count_training_kernels(options: TrainingOptions) -> list[dict]:
    """Count kernels and host waits of an iteration of every case, without the optimizer's step.

    Returns:
        list[dict]: ``config``, ``way``, and ``kernels`` and ``waits`` of ``forward and losses`` (from the data
        preprocessor on), ``backward`` and ``all``.
    """
    device = prepare_benchmark(1, options.device)
    rows = []
    with random_clip(options.random_clip, options.seed) as clip:
        for case in build_cases(options, clip):
            # The first iteration embeds the class names.
            run_iteration(case, random_batch(options), Stopwatch(device))
            stopwatch = Stopwatch(device)
            batch = random_batch(options)
            with KernelCounter(device, lambda watch=stopwatch: watch.current_stage) as counter:
                counter.mark_batch(batch)
                run_iteration(case, batch, stopwatch)
            rows.append(dict(config=case.config, way=case.way, **counter.counts()))
    return rows


def build_cases(options: TrainingOptions, clip: dict | None) -> list[TrainingCase]:
    """Build the models of all cases; ``clip`` is the config of a random CLIP."""
    cases = []
    for config in options.configs:
        cfg = random_zegformer_config(config, options.cfg_options, clip, options.num_classes)
        for way in options.ways:
            uses_checkpointing = way == 'checkpointing'
            cfg.model.decode_head.with_cp = uses_checkpointing
            # A frozen backbone keeps no activations.
            if uses_checkpointing and cfg.model.backbone.type != 'mmzeg.CLIPBackbone':
                cfg.model.backbone.with_cp = True
            cases.append(TrainingCase(config_stem(config), way, _build_model(cfg, way, options)))
            cfg.model.backbone.pop('with_cp', None)
    for config in options.other_configs:
        cfg = read_config(config, options.cfg_options)
        cfg.model.backbone.init_cfg = None
        cases.append(TrainingCase(config_stem(config), '', _build_model(cfg, '', options)))
    return cases


def _build_model(cfg: Config, way: str, options: TrainingOptions) -> nn.Module:
    """Build a config's model on the device, in training mode."""
    torch.manual_seed(options.seed)
    if cfg.model.data_preprocessor.get('size'):
        cfg.model.data_preprocessor.size = tuple(options.crop_size)
    model = MODELS.build(dict(cfg.model, compile={}) if way == 'compile' else cfg.model)
    model.init_weights()
    return model.to(options.device).train()


def random_batch(options: TrainingOptions, seed: int | None = None) -> dict:
    """Return a batch of noise images, with label maps of random classes in blocks; ``seed`` replaces the options'."""
    generator = torch.Generator().manual_seed(options.seed if seed is None else seed)
    height, width = options.crop_size
    grid = (-(-height // BLOCK_SIZE), -(-width // BLOCK_SIZE))
    samples = []
    for _ in range(options.batch_size):
        blocks = torch.randint(0, options.classes_per_image, (1, *grid), generator=generator)
        labels = blocks.repeat_interleave(BLOCK_SIZE, 1).repeat_interleave(BLOCK_SIZE, 2)[:, :height, :width]
        sample = SegDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width), img_path='random'))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    shape = (options.batch_size, 3, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return dict(inputs=list(images), data_samples=samples)


def measure_iteration(case: TrainingCase, batch: dict, device: torch.device) -> None:
    """Run one iteration without the optimizer's step, and add to the case's measurement.

    Raises:
        FloatingPointError: The loss is not finite; names the case.
    """
    stopwatch = Stopwatch(device)
    with PeakMemory(device) as memory:
        loss = run_iteration(case, batch, stopwatch)
    if not torch.isfinite(loss):
        raise FloatingPointError(f'{case.label}: the loss is not finite')
    case.measurement.add(stopwatch, memory)


def run_iteration(case: TrainingCase, batch: dict, stopwatch: Stopwatch) -> Tensor:
    """Run one iteration without the optimizer's step, and return its loss."""
    amp = torch.autocast(stopwatch.device.type, dtype=torch.bfloat16) if case.way == 'amp' else nullcontext()
    with stopwatch.stage(FORWARD), amp:
        data = case.model.data_preprocessor(batch, True)
        losses = case.model.loss(data['inputs'], data['data_samples'])
        loss = case.model.parse_losses(losses)[0]
    with stopwatch.stage(BACKWARD):
        loss.backward()
    case.model.zero_grad(set_to_none=True)
    return loss


def result_rows(cases: Sequence[TrainingCase], baseline: TrainingCase) -> list[dict]:
    """Return a row per case for JSON; ``ratio`` is how many times faster than the baseline a case is."""
    rows = []
    for case in cases:
        measurement = case.measurement
        row = dict(config=case.config, way=case.way, **measurement.row())
        row['forward'] = measurement.stage_seconds(FORWARD)
        row['backward'] = measurement.stage_seconds(BACKWARD)
        row['ratio'] = measurement.speedup_over(baseline.measurement)
        rows.append(row)
    return rows


def result_table(rows: Sequence[dict], baseline: str) -> PrettyTable:
    """Return the rows as a table; ``baseline`` is the config to which ratios refer."""
    table = PrettyTable(['config', 'way', 's', 'range', 'forward', 'backward', 'peak MiB', f'x {baseline}'], align='r')
    for row in rows:
        table.add_row(
            [
                row['config'],
                row['way'],
                *time_cells(row),
                f'{row["forward"]:.2f}',
                f'{row["backward"]:.2f}',
                f'{row["mib"]:.0f}',
                f'{row["ratio"]:.2f}',
            ]
        )
    return table


def kernel_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows of ``count_training_kernels`` as a table: kernels / host waits."""
    stages = (FORWARD, BACKWARD, 'all')
    table = PrettyTable(['config', 'way', *stages], align='r')
    for row in rows:
        cells = [f'{row["kernels"].get(stage, 0)} / {row["waits"].get(stage, 0)}' for stage in stages]
        table.add_row([row['config'], row['way'], *cells])
    return table
