"""Measure the test of a batch by stages: configs with different scorers, interleaved in one run.

``tools/analysis_tools/benchmark.py`` is its command line.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from unittest.mock import patch

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch import Tensor

from mmzeg.benchmarking.inference_cases import InferenceCase, InferenceOptions, build_cases
from mmzeg.benchmarking.inference_stages import STAGES, configured, stage_methods
from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.benchmarking.operation_count import count_operations
from mmzeg.benchmarking.random_models import random_clip
from mmzeg.benchmarking.repeats import measure_interleaved, prepare_benchmark
from mmzeg.benchmarking.segment_replacement import TrainedSegments, predict_segments
from mmzeg.benchmarking.time_and_memory import PeakMemory, Stopwatch
from mmzeg.clip import CLIP
from mmzeg.clip.text_cache import TextCache
from mmzeg.models.classifiers import CLIPTextClassifier


def run_inference_benchmark(options: InferenceOptions) -> list[dict]:
    """Measure all cases and return their rows, see ``result_rows``.

    Operations are counted in the first round, which warms up. Prints what embedding the class names takes, and progress
    on stderr.
    """
    options = replace(options, warmups=max(1, options.warmups))
    return result_rows(run_cases(options, count_or_measure), options.batch_size)


def run_kernel_count(options: InferenceOptions) -> list[dict]:
    """Count kernels and host waits of all cases and return their rows, see ``kernel_rows``; prints as above."""
    return kernel_rows(run_cases(replace(options, repeats=1), count_kernels))


def run_cases(options: InferenceOptions, measure: Callable) -> list[InferenceCase]:
    """Build all cases and call ``measure`` on each in turn, see ``measure_test``; returns the cases."""
    device = prepare_benchmark(options.repeats, options.device)
    with ExitStack() as stack:
        # Files of random CLIPs; None is the CLIP of each config.
        clips = [stack.enter_context(random_clip(name, options.seed)) for name in options.random_clips or [None]]
        cases = build_cases(options, clips)
        # Segments of a trained model
        segments = None
        if options.trained:
            num_queries = [case.model.decode_head.query_embed.num_embeddings for case in cases if case.scorer]
            segments = predict_segments(*options.trained, max(num_queries))
        # Text embeddings, once per config and CLIP
        models = {(case.config, case.clip): case.model for case in reversed(cases) if case.scorer}
        for (config, clip), model in models.items():
            print(f'{config}, {clip}: {embed_class_names(model.decode_head.classifier, device)}', flush=True)
        for case in cases:
            if case.scorer:
                case.scorer.prepare(case.model.vocabulary, device)
        # Random images
        generator = torch.Generator().manual_seed(options.seed)
        shape = (options.batch_size, 3, *options.image_size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        batch = make_batch(images, options.original_size or options.image_size)
        measure_interleaved(
            cases,
            lambda case: measure(case, copy.deepcopy(batch), segments, device),
            options.repeats,
            options.warmups,
        )
    return cases


def make_batch(images: Tensor, original_size: Sequence[int]) -> dict:
    """Return a test batch of images (B, 3, H, W) as a data loader gives it."""
    size = tuple(images.shape[-2:])
    meta = dict(ori_shape=tuple(original_size), img_shape=size, pad_shape=size, img_path='random')
    samples = []
    for _ in images:
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *original_size, dtype=torch.long))
        samples.append(sample)
    return dict(inputs=list(images), data_samples=samples)


def count_or_measure(case: InferenceCase, batch: dict, segments: TrainedSegments | None, device: torch.device) -> None:
    """Count the operations of a test in the first call for a case, and measure the test in every later one."""
    if case.operations is None:
        with configured(case, segments):
            # Another segmentor's first test fills its caches: SAN embeds the class names.
            if case.scorer is None:
                case.model.test_step(copy.deepcopy(batch))
            case.operations = count_operations(lambda: case.model.test_step(batch))
    else:
        measure_test(case, batch, segments, device)


@torch.inference_mode()
def measure_test(case: InferenceCase, batch: dict, segments: TrainedSegments | None, device: torch.device) -> None:
    """Test a batch once and add to the case's measurement."""
    stopwatch = Stopwatch(device)
    # The semantic map is what remains of the test when the other stages are measured.
    with (
        configured(case, segments),
        stopwatch.watch(stage_methods(case)),
        PeakMemory(device) as memory,
        stopwatch.stage('map'),
    ):
        case.model.test_step(batch)
    case.measurement.add(stopwatch, memory)


@torch.no_grad()
def count_kernels(case: InferenceCase, batch: dict, segments: TrainedSegments | None, device: torch.device) -> None:
    """Test a batch once, and set the case's kernels and host waits."""
    stopwatch = Stopwatch(device)
    case.kernels = KernelCounter(device, lambda: stopwatch.current_stage)
    case.kernels.mark_batch(batch)
    with (
        configured(case, segments),
        stopwatch.watch(stage_methods(case)),
        stopwatch.stage('map'),
        case.kernels,
    ):
        case.model.test_step(batch)


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


def result_rows(cases: Sequence[InferenceCase], batch_size: int = 1) -> list[dict]:
    """Return a row per case for JSON; ``seconds`` are of a batch.

    ``ratio`` is how many times faster than the reference a case is, None without a reference; ``stages`` are seconds.
    ``gflop`` and ``inputs``, see ``OperationCount``, are None where nothing was counted.
    """
    references = {_setting(case): case.measurement for case in reversed(cases) if case.is_reference}
    rows = []
    for case in cases:
        measurement = case.measurement
        reference = references.get(_setting(case))
        stages = {stage: measurement.stage_seconds(stage) for stage in STAGES}
        row = dict(
            config=case.config,
            clip=case.clip,
            variant=case.variant,
            execution=case.execution.mode if case.execution else None,
            empties=case.num_empty,
            **measurement.row(),
        )
        row['gflop'] = case.operations.gflop if case.operations else None
        row['inputs'] = case.operations.inputs_text if case.operations else None
        row['images_per_second'] = batch_size / median(measurement.seconds)
        row['ratio'] = measurement.speedup_over(reference) if reference else None
        row['stages'] = stages if case.scorer else None
        rows.append(row)
    return rows


def _setting(case: InferenceCase) -> tuple[str, str, int | None]:
    """Return what a case has in common with the reference that it is compared with."""
    return case.config, case.clip, case.num_empty


def kernel_rows(cases: Sequence[InferenceCase]) -> list[dict]:
    """Return a row per case for JSON: ``kernels`` and ``waits`` of every stage and of ``all``."""
    rows = []
    for case in cases:
        counter = case.kernels
        rows.append(
            dict(
                config=case.config,
                clip=case.clip,
                variant=case.variant,
                execution=case.execution.mode if case.execution else None,
                empties=case.num_empty,
                **counter.counts(),
                wait_sites=dict(counter.wait_sites),
            )
        )
    return rows


def kernel_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows as a table: kernels of every stage, and after a slash its host waits where there are any."""
    columns = (*STAGES, 'all')
    table = PrettyTable(('config', 'CLIP model', 'variant', 'execution', 'empty', *columns), align='r')
    for row in rows:
        cells = []
        for stage in columns:
            waits = row['waits'].get(stage, 0)
            cells.append(f'{row["kernels"].get(stage, 0)}' + (f' / {waits}' if waits else ''))
        empties = '' if row['empties'] is None else row['empties']
        table.add_row([row['config'], row['clip'], row['variant'], row['execution'] or '', empties, *cells])
    return table


def result_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows as a table; times are milliseconds of a batch."""
    columns = ['config', 'CLIP model', 'variant', 'execution', 'empty', 'ms', 'range', 'image/s', 'x reference']
    table = PrettyTable([*columns, 'GFLOP', 'peak MiB', *STAGES, 'inputs'], align='r')
    for row in rows:
        stages = row['stages']
        milliseconds = {name: 1000 * row[name] for name in ('seconds', 'fastest', 'slowest')}
        table.add_row(
            [
                row['config'],
                row['clip'],
                row['variant'],
                row['execution'] or '',
                '' if row['empties'] is None else row['empties'],
                f'{milliseconds["seconds"]:.0f}',
                f'{milliseconds["fastest"]:.0f}-{milliseconds["slowest"]:.0f}',
                f'{row["images_per_second"]:.3g}',
                f'{row["ratio"]:.2f}' if row['ratio'] else '',
                f'{row["gflop"]:.0f}',
                f'{row["mib"]:.0f}',
                *(f'{1000 * stages[stage]:.0f}' if stages else '' for stage in STAGES),
                row['inputs'],
            ]
        )
    return table
