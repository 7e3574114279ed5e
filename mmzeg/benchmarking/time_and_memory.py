"""Time by stages, peak memory, and the order of repeated measurements."""

import ctypes
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import torch

PAGE_SIZE = os.sysconf('SC_PAGE_SIZE')
# Seconds between two readings of the process's memory.
SAMPLING_INTERVAL = 0.002

Case = TypeVar('Case')


def interleave(cases: Sequence[Case], repeats: int, warmups: int = 1) -> Iterator[tuple[int, Case]]:
    """Yield every case once per round, so that changes of the machine's speed meet all cases alike.

    Every other round goes backwards, as busy machines slow down within a round.

    Args:
        cases (Sequence): What is measured.
        repeats (int): Rounds that count, from round 1 on.
        warmups (int): Rounds that warm up, up to round 0. Defaults to 1.

    Yields:
        tuple: Round and case.
    """
    for round_index in range(1 - warmups, repeats + 1):
        for case in cases if round_index % 2 else reversed(cases):
            yield round_index, case


class Stopwatch:
    """Measure the seconds of stages, each without the stages that it calls.

    On a GPU, the times are those at which it reaches the begin and the end of a stage. The host waits for it only at
    the end of the outermost stage, so that stages overlap as they do without a stopwatch.

    Args:
        device (torch.device): Where the work runs.

    Attributes:
        seconds (dict[str, float]): Of every stage, complete when the outermost stage has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        # Stages that have begun and not ended, the innermost last.
        self._stages: list[str] = []
        # Stage, begin and end of every interval: seconds, or events of a GPU.
        self._intervals: list[tuple[str, object, object]] = []
        self._started_at: object = None

    @property
    def current_stage(self) -> str:
        """The innermost stage that has begun and not ended; empty outside all stages."""
        return self._stages[-1] if self._stages else ''

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time within the ``with`` block to a stage."""
        self._add_to_current()
        self._stages.append(name)
        try:
            yield
        finally:
            self._add_to_current()
            self._stages.pop()
            if not self._stages:
                self._sum_intervals()

    @contextmanager
    def watch(self, methods: dict[tuple[object, str], str]) -> Iterator[None]:
        """Add the time of every call of some methods to stages, within the ``with`` block.

        Args:
            methods (dict): (class or module, name of a method or function) -> stage.
        """
        with ExitStack() as stack:
            for (owner, name), stage in methods.items():
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), stage)))
            yield

    def _timed(self, function: Callable, stage: str) -> Callable:
        def timed(*args: object, **kwargs: object) -> object:
            with self.stage(stage):
                return function(*args, **kwargs)

        return timed

    def _add_to_current(self) -> None:
        """Add the time since the last call to the innermost stage."""
        if self.device.type == 'cuda':
            now = torch.cuda.Event(enable_timing=True)
            now.record(torch.cuda.current_stream(self.device))
        else:
            now = time.perf_counter()
        if self._stages:
            self._intervals.append((self._stages[-1], self._started_at, now))
        self._started_at = now

    def _sum_intervals(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        for stage, begin, end in self._intervals:
            self.seconds[stage] += begin.elapsed_time(end) / 1000 if self.device.type == 'cuda' else end - begin
        self._intervals.clear()


class PeakMemory:
    """Measure the peak memory within a ``with`` block, above what was allocated before.

    On a CPU a thread reads the resident memory of this process; on a GPU torch's allocator reports its peak.

    Args:
        device (torch.device): Whose memory is measured.

    Attributes:
        mib (float): The peak in MiB, after the block.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mib = 0.0

    def __enter__(self) -> 'PeakMemory':
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return self
        self._before = self._peak = resident_bytes(trim=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == 'cuda':
            self.mib = (torch.cuda.max_memory_allocated(self.device) - self._before) / 2**20
            return
        self._done.set()
        self._thread.join()
        self.mib = (self._peak - self._before) / 2**20

    def _sample(self) -> None:
        while not self._done.wait(SAMPLING_INTERVAL):
            self._peak = max(self._peak, resident_bytes())


def resident_bytes(trim: bool = False) -> int:
    """Return the resident memory of this process in bytes, as Linux counts it.

    Args:
        trim (bool): Return freed memory to the system first. Defaults to False.
    """
    if trim:
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE_SIZE
