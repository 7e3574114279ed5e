"""Stages add up, peak memory is measured, and cases take turns."""

import subprocess
import sys
import time
from pathlib import Path

import torch

from mmzeg.benchmarking.time_and_memory import Stopwatch, interleave, resident_bytes

ROOT = Path(__file__).parents[2]


def test_interleave_warms_up_and_turns_around():
    assert list(interleave('ab', 3)) == [
        (0, 'b'), (0, 'a'),
        (1, 'a'), (1, 'b'),
        (2, 'b'), (2, 'a'),
        (3, 'a'), (3, 'b'),
    ]  # fmt: skip


def test_stages_exclude_the_stages_that_they_call():
    stopwatch = Stopwatch(torch.device('cpu'))
    start = time.perf_counter()
    with stopwatch.stage('outer'):
        time.sleep(0.02)
        with stopwatch.stage('inner'):
            time.sleep(0.05)
    total = time.perf_counter() - start
    # No second counts twice, however slow a busy machine is.
    assert stopwatch.seconds['outer'] >= 0.02 and stopwatch.seconds['inner'] >= 0.05
    assert sum(stopwatch.seconds.values()) <= total


class FakeGpu:
    """A GPU that works off its queue when the host waits for it: every queued millisecond takes one."""

    def __init__(self):
        self.milliseconds = 0
        self.queue = []
        self.num_waits = 0

    def current_stream(self, device):
        return self

    def synchronize(self, device):
        self.num_waits += 1
        for work in self.queue:
            work()
        self.queue.clear()

    def run(self, milliseconds):
        self.queue.append(lambda: setattr(self, 'milliseconds', self.milliseconds + milliseconds))


class FakeEvent:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, gpu):
        gpu.queue.append(lambda: setattr(self, 'reached_at', gpu.milliseconds))

    def elapsed_time(self, end):
        return end.reached_at - self.reached_at


def test_stages_of_a_gpu_overlap_with_the_host(monkeypatch):
    gpu = FakeGpu()
    monkeypatch.setattr(torch.cuda, 'Event', FakeEvent)
    for name in ('current_stream', 'synchronize'):
        monkeypatch.setattr(torch.cuda, name, getattr(gpu, name))
    stopwatch = Stopwatch(torch.device('cuda'))
    # Earlier work does not count.
    gpu.run(1000)
    for _ in range(2):
        with stopwatch.stage('outer'):
            gpu.run(20)
            with stopwatch.stage('inner'):
                gpu.run(500)
            gpu.run(3)
    assert stopwatch.seconds == dict(outer=2 * 0.023, inner=2 * 0.5) and gpu.num_waits == 2


def test_watched_methods_are_stages_within_the_block_only():
    class Model:
        def encode(self):
            time.sleep(0.02)
            return 'encoded'

    original = Model.encode
    stopwatch = Stopwatch(torch.device('cpu'))
    with stopwatch.watch({(Model, 'encode'): 'encoder'}), stopwatch.stage('other'):
        assert Model().encode() == 'encoded'
    assert stopwatch.seconds['encoder'] >= 0.02 > stopwatch.seconds['other']
    assert Model.encode is original


def test_peak_memory_is_what_was_allocated_at_once():
    # In a process of its own: threads and memory of other tests would count as well.
    script = """
import time, torch
from mmzeg.benchmarking.time_and_memory import PeakMemory
with PeakMemory(torch.device('cpu')) as memory:
    for _ in range(10):
        tensor = torch.ones(64 * 2**18)  # 64 MiB
        time.sleep(0.05)
        del tensor
print(memory.mib)
"""
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    # One of ten tensors, or two if the system reclaims pages late; never their sum, 640.
    assert 60 < float(result.stdout) < 160


def test_resident_bytes():
    before = resident_bytes(trim=True)
    tensor = torch.ones(64 * 2**18)
    assert resident_bytes() - before > 60 * 2**20 and tensor.sum() > 0
