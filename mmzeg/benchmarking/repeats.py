"""Repeated measurements of benchmark cases, and the rows of their tables."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol, TypeVar

import torch
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from mmzeg.benchmarking.time_and_memory import PeakMemory, Stopwatch, interleave
from mmzeg.utils.preflight import check_device


@dataclass
class Measurement:
    """Seconds and peak memory of one case, an entry per repeat."""

    seconds: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    def add(self, stopwatch: Stopwatch, memory: PeakMemory) -> None:
        """Add one repeat."""
        self.seconds.append(sum(stopwatch.seconds.values()))
        self.stages.append(dict(stopwatch.seconds))
        self.peak_mib.append(memory.mib)

    def clear(self) -> None:
        """Remove all repeats."""
        self.seconds.clear()
        self.stages.clear()
        self.peak_mib.clear()

    def row(self) -> dict[str, float]:
        """Return ``seconds`` (the median), ``fastest``, ``slowest``, and ``mib``, the highest peak."""
        return dict(
            seconds=median(self.seconds),
            fastest=min(self.seconds),
            slowest=max(self.seconds),
            mib=max(self.peak_mib),
        )

    def stage_seconds(self, stage: str) -> float:
        """Return the median seconds of a stage; 0 for a repeat without it."""
        return median(seconds.get(stage, 0.0) for seconds in self.stages)

    def speedup_over(self, baseline: 'Measurement') -> float:
        """Return how many times faster than a baseline this is: the median of the ratios within each round."""
        return median(base / seconds for base, seconds in zip(baseline.seconds, self.seconds, strict=True))


class BenchmarkCase(Protocol):
    """One row of a benchmark."""

    label: str
    measurement: Measurement


Case = TypeVar('Case', bound=BenchmarkCase)


def prepare_benchmark(repeats: int, device: str) -> torch.device:
    """Check a benchmark's arguments, register mmseg's modules, and return the device.

    Raises:
        ValueError: No repeat, or no such device.
    """
    if repeats < 1:
        raise ValueError(f'--repeats must be 1 or more, got {repeats}')
    check_device(device)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return torch.device(device)


def measure_interleaved(cases: Sequence[Case], measure: Callable[[Case], None], repeats: int, warmups: int = 1) -> None:
    """Measure all cases in turn, in several rounds, and report progress on stderr.

    Args:
        cases (Sequence): What is measured.
        measure (Callable): Runs a case once and adds to its ``measurement``.
        repeats (int): Rounds that count.
        warmups (int): Rounds before them, which warm up. Defaults to 1.
    """
    for round_index, case in interleave(cases, repeats, warmups):
        print(f'{max(round_index, 0)}/{repeats} {case.label} ...', file=sys.stderr, flush=True)
        measure(case)
        if round_index < 1:
            case.measurement.clear()


def time_cells(row: dict[str, float]) -> list[str]:
    """Return the cells of a row for the table's columns s and range."""
    return [f'{row["seconds"]:.2f}', f'{row["fastest"]:.2f}-{row["slowest"]:.2f}']


def describe_run(inputs: str, device: str, repeats: int) -> str:
    """Return the line above a table: input sizes, device, threads, torch's version and the number of repeats."""
    threads = torch.get_num_threads()
    return f'{inputs}, {device}, {threads} threads, torch {torch.__version__}; medians of {repeats}'
