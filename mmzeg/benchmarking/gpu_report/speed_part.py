"""Part 4: time, memory and kernels of a test, next to those of SAN and MaskFormer of mmseg."""

import copy

import torch

from mmzeg.benchmarking.gpu_report.options import MASKFORMER, SAN, ReportOptions
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.benchmarking.inference_benchmark import measure_test, result_rows, run_cases
from mmzeg.benchmarking.inference_cases import InferenceCase, InferenceOptions
from mmzeg.benchmarking.inference_stages import configured
from mmzeg.benchmarking.kernel_trace import TRACE_UNITS, top_kernels
from mmzeg.benchmarking.segment_replacement import TrainedSegments

CONFIG = 'zegformer_{}_coco'
VARIANTS = ('exact', 'guaranteed', 'threshold', 'merged', 'one-pass')
TRACED = ('exact', 'one-pass')


def measure_speed(options: ReportOptions) -> Section:
    """Time the scorers of ZegFormer, SAN and MaskFormer on random images."""
    section = Section('Test speed')
    sizes = options.sizes
    height, width = sizes.image_size
    rows = section.add_table(
        f'Seconds per batch of random images of {height} x {width}: median and range of {sizes.repeats} after '
        f'{sizes.warmups}; columns from "backbone" on are the seconds of the stages that take the most. "exact" is the '
        'published scorer, one crop per segment. "guaranteed" and "threshold" have pruning, "merged" has '
        '`merge_iou_thr`, "one-pass" is `CLIPMaskScorer`. Weights are random: pruning and merging skip more with the '
        'masks of a trained model.'
    )
    for batch_size in sizes.test_batches:
        for backbone in sizes.backbones:
            config = CONFIG.format(backbone)
            with section.step(f'{config}, batch {batch_size}'):
                measured = run_group(options, batch_size, section, configs=(config,), random_clips=(sizes.clip,))
                rows.extend(measured)
            maskformer = MASKFORMER.format(backbone)
            with section.step(f'{maskformer}, batch {batch_size}'):
                rows.extend(run_group(options, batch_size, section, configs=(), other_configs=(maskformer,)))
        with section.step(f'{SAN}, batch {batch_size}'):
            fields = dict(other_configs=(SAN,), other_cfg_options=sizes.san_options)
            rows.extend(run_group(options, batch_size, section, configs=(), **fields))
    return section


def run_group(options: ReportOptions, batch_size: int, section: Section, **fields: object) -> list[dict]:
    """Measure the cases of one config, trace the slowest kernels of some, and return the rows.

    Args:
        options (ReportOptions): Device and sizes.
        batch_size (int): Images per batch.
        section (Section): Gets a table per trace.
        fields (object): Fields of ``InferenceOptions`` that say what is measured.
    """
    sizes = options.sizes
    inference = InferenceOptions(
        variants=VARIANTS,
        batch_size=batch_size,
        image_size=sizes.image_size,
        num_classes=sizes.num_classes,
        repeats=sizes.repeats,
        warmups=sizes.warmups,
        device=options.device,
        cfg_options=sizes.cfg_options,
        **fields,
    )
    traces: dict[str, list[dict]] = {}

    def measure(case: InferenceCase, batch: dict, segments: TrainedSegments | None, device: torch.device) -> None:
        measure_test(case, copy.deepcopy(batch), segments, device)
        # The last round is measured before it is traced.
        is_last = len(case.measurement.seconds) == sizes.repeats
        if is_last and case.variant in TRACED and batch_size == sizes.test_batches[0]:
            traces[case.label] = trace(case, batch, device)

    cases = run_cases(inference, measure)
    for label, kernels in traces.items():
        caption = f'Kernels that take the most time in a batch of {batch_size}: {label}. {TRACE_UNITS}'
        section.add_table(caption).extend(kernels)
    return [_row(row, batch_size) for row in result_rows(cases, batch_size)]


@torch.inference_mode()
def trace(case: InferenceCase, batch: dict, device: torch.device) -> list[dict]:
    """Return the kernels of a test that take the most time."""
    with configured(case, None):
        return top_kernels(lambda: case.model.test_step(batch), device)


def _row(row: dict, batch_size: int) -> dict:
    stages = row['stages'] or {}
    return {
        'config': row['config'],
        'variant': row['variant'],
        'batch': batch_size,
        'seconds': row['seconds'],
        'range': f'{row["fastest"]:.4g}-{row["slowest"]:.4g}',
        'images/s': row['images_per_second'],
        'peak MiB': round(row['mib']),
        **{stage: stages.get(stage) for stage in ('backbone', 'head', 'crops', 'CLIP', 'pruning', 'map')},
    }
