"""Part 3: training in float32 and in mixed precision, next to mmseg's MaskFormer."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from mmzeg.benchmarking.gpu_report.options import MASKFORMER, ReportOptions
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.benchmarking.kernel_trace import TRACE_UNITS, top_kernels
from mmzeg.benchmarking.random_models import random_clip
from mmzeg.benchmarking.time_and_memory import PeakMemory
from mmzeg.benchmarking.training_benchmark import TrainingOptions, build_cases, random_batch
from mmzeg.utils.config_files import read_config

CONFIG = 'zegformer_{}_coco'
# Batches of random images, which repeat.
NUM_BATCHES = 4
# Greatest relative difference of the mean losses of the last third of the iterations.
MAX_LOSS_DIFFERENCE = 0.1


class AutocastOptimWrapper(OptimWrapper):
    """MMEngine's wrapper in bfloat16 on a CPU, where its ``AmpOptimWrapper`` refuses to work."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Compute in mixed precision within the ``with`` block."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@dataclass
class TrainingCurve:
    """Losses, time and memory of one training.

    Args:
        losses (list[dict[str, float]]): Loss terms and ``loss``, their sum, of every iteration.
        mib (float): Peak memory.
        images_per_second (float): In the second half of the iterations.
    """

    losses: list[dict[str, float]] = field(default_factory=list)
    mib: float = 0.0
    images_per_second: float = 0.0

    @property
    def last_loss(self) -> float:
        """Mean loss of the last third of the iterations."""
        third = max(1, len(self.losses) // 3)
        return mean(losses['loss'] for losses in self.losses[-third:])

    @property
    def smallest_term(self) -> tuple[str, float]:
        """Name and value of the smallest loss term of all iterations."""
        terms = [(name, value) for losses in self.losses for name, value in losses.items() if 'loss' in name]
        return min(terms, key=lambda term: term[1])

    @property
    def is_finite(self) -> bool:
        """Whether every loss of every iteration is finite."""
        return all(math.isfinite(value) for losses in self.losses for value in losses.values())


def measure_training(options: ReportOptions) -> Section:
    """Train ZegFormer and MaskFormer on random images in float32 and in mixed precision."""
    section = Section('Training')
    sizes = options.sizes
    rows = section.add_table(
        f'{sizes.training_iterations} iterations of {sizes.training_batch} random images of {sizes.crop_size} x '
        f'{sizes.crop_size}, without data loading; speed is of the second half. "last loss" is the mean loss of '
        'the last third of the iterations, "smallest term" the loss term with the smallest value in any iteration. '
        f'Mixed precision is {str(options.half).removeprefix("torch.")}. Weights and CLIP are random.'
    )
    for backbone in sizes.backbones:
        for config in (CONFIG.format(backbone), MASKFORMER.format(backbone)):
            curves: dict[str, TrainingCurve] = {}
            for precision in ('float32', 'mixed'):
                with section.step(f'{config}, {precision}'):
                    curve, kernels = train(config, precision, options)
                    curves[precision] = curve
                    rows.append(_row(config, precision, curve))
                    name, value = curve.smallest_term
                    section.check(curve.is_finite, f'{config}, {precision}: a loss is not finite')
                    section.check(value > 0, f'{config}, {precision}: {name} is {value}')
                    if kernels:
                        caption = (
                            f'Kernels that take the most time in one iteration: {config}, {precision}. {TRACE_UNITS}'
                        )
                        section.add_table(caption).extend(kernels)
            if len(curves) == 2:
                difference = abs(curves['mixed'].last_loss / curves['float32'].last_loss - 1)
                section.check(
                    difference <= MAX_LOSS_DIFFERENCE,
                    f'{config}: the last losses of both precisions differ by {100 * difference:.1f} %',
                )
    return section


def train(config: str, precision: str, options: ReportOptions) -> tuple[TrainingCurve, list[dict]]:
    """Train a config on random images.

    Args:
        config (str): Config of a ZegFormer or of another segmentor.
        precision (str): ``float32`` or ``mixed``.
        options (ReportOptions): Device and sizes.

    Returns:
        tuple: Curve, and the slowest kernels of an iteration in mixed precision; none for other segmentors.
    """
    sizes = options.sizes
    is_other = '::' in config
    training = TrainingOptions(
        configs=() if is_other else (config,),
        other_configs=(config,) if is_other else (),
        crop_size=(sizes.crop_size, sizes.crop_size),
        batch_size=sizes.training_batch,
        num_classes=sizes.num_classes,
        device=options.device,
        cfg_options=sizes.cfg_options,
    )
    with random_clip(None if is_other else sizes.clip, seed=0) as clip:
        (case,) = build_cases(training, clip)
        batches = [random_batch(training, seed) for seed in range(NUM_BATCHES)]
        optim_wrapper = build_training_wrapper(case.model, precision, options)
        curve = run_iterations(case.model, optim_wrapper, batches, options)
        kernels = []
        if precision == 'mixed' and not is_other:
            kernels = top_kernels(lambda: case.model.train_step(batches[0], optim_wrapper), options.torch_device)
    return curve, kernels


def build_training_wrapper(model: nn.Module, precision: str, options: ReportOptions) -> OptimWrapper:
    """Return the published optimizer for a model, in ``float32`` or ``mixed`` precision."""
    config = dict(read_config(CONFIG.format('r50')).optim_wrapper)
    config['type'] = 'OptimWrapper'
    if precision == 'mixed':
        is_cpu = options.torch_device.type == 'cpu'
        config['type'] = AutocastOptimWrapper if is_cpu else 'AmpOptimWrapper'
    return build_optim_wrapper(model, config)


def run_iterations(
    model: nn.Module, optim_wrapper: OptimWrapper, batches: list[dict], options: ReportOptions
) -> TrainingCurve:
    """Train a model for the report's number of iterations."""
    curve = TrainingCurve()
    num_iterations = options.sizes.training_iterations
    first_timed = num_iterations // 2
    device = options.torch_device
    with PeakMemory(device) as memory:
        for iteration in range(num_iterations):
            if iteration == first_timed:
                _wait(device)
                start = time.perf_counter()
            log_vars = model.train_step(batches[iteration % len(batches)], optim_wrapper)
            curve.losses.append({name: float(value) for name, value in log_vars.items()})
        _wait(device)
        seconds = time.perf_counter() - start
    curve.mib = memory.mib
    curve.images_per_second = (num_iterations - first_timed) * options.sizes.training_batch / seconds
    return curve


def _row(config: str, precision: str, curve: TrainingCurve) -> dict:
    name, value = curve.smallest_term
    return {
        'config': config.rpartition('/')[2].removesuffix('.py'),
        'precision': precision,
        'first loss': curve.losses[0]['loss'],
        'last loss': curve.last_loss,
        'smallest term': name,
        'its value': value,
        'peak MiB': round(curve.mib),
        'images/s': curve.images_per_second,
    }


def _wait(device: torch.device) -> None:
    """Wait until a GPU has finished."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
