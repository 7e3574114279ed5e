"""Time by stages and peak memory, for the benchmarks beside it."""

import ctypes
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

PAGE = os.sysconf('SC_PAGE_SIZE')


def in_turns(cases: Sequence, repeats: int) -> Iterator[tuple[int, object]]:
    """(round, case): round 0 warms up; every other one goes backwards, as busy machines slow down within a round."""
    for step in range(repeats + 1):
        for case in cases if step % 2 else reversed(cases):
            yield step, case


class Stopwatch:
    """Seconds spent in stages, each without the stages that it calls.

    Args:
        device (torch.device): Whose work is waited for where a stage ends.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done inside for a stage."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    @contextmanager
    def watch(self, functions: dict[tuple[type, str], str]) -> Iterator[None]:
        """Count every call of these methods, by class and name, for a stage."""
        with ExitStack() as stack:
            for (owner, name), stage in functions.items():
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), stage)))
            yield

    def _timed(self, function: Callable, stage: str) -> Callable:
        def timed(*args: object, **kwargs: object) -> object:
            with self.stage(stage):
                return function(*args, **kwargs)

        return timed

    def _turn(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


class PeakMemory:
    """``with PeakMemory(device) as memory``: ``memory.mib`` is the peak above what was held before."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.mib = device, 0.0

    def __enter__(self) -> 'PeakMemory':
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return self
        self._before = self._peak = resident(trimmed=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == 'cuda':
            self.mib = (torch.cuda.max_memory_allocated(self.device) - self._before) / 2**20
            return
        self._done.set()
        self._thread.join()
        self.mib = (self._peak - self._before) / 2**20

    def _look(self) -> None:
        while not self._done.wait(0.002):
            self._peak = max(self._peak, resident())


def resident(trimmed: bool = False) -> int:
    """Bytes of this process in memory, as Linux counts them; ``trimmed``: what was freed is given back first."""
    if trimmed:
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path('/proc/self/statm').read_text().split()[1]) * PAGE
