"""Trace the kernels of a call with torch's profiler."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# Columns of the rows, for captions
TRACE_UNITS = '"ms" is the time of all calls, "percent" its part of the time of all kernels.'


def top_kernels(call: Callable[[], object], device: torch.device, count: int = 10) -> list[dict]:
    """Return the kernels of a call that take the most time; on a CPU its operations.

    Args:
        call (Callable): What is traced; warmed up before.
        device (torch.device): Where its tensors are.
        count (int): Number of rows. Defaults to 10.

    Returns:
        list[dict]: ``kernel``, ``calls``, ``ms`` of all its calls, and ``percent`` of the time of all kernels.
    """
    is_cuda = device.type == 'cuda'
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if is_cuda else [ProfilerActivity.CPU]
    with profile(activities=activities) as trace:
        call()
        if is_cuda:
            torch.cuda.synchronize(device)
    # Events of a GPU are its kernels; their names are those that the compiler gave.
    kind = torch.autograd.DeviceType.CUDA if is_cuda else torch.autograd.DeviceType.CPU
    events = [event for event in trace.key_averages() if event.device_type == kind]
    times = {event.key: (event.count, _microseconds(event, is_cuda)) for event in events}
    total = sum(microseconds for _, microseconds in times.values())
    slowest = sorted(times.items(), key=lambda item: -item[1][1])[:count]
    return [
        dict(kernel=name, calls=calls, ms=microseconds / 1000, percent=100 * microseconds / max(total, 1e-9))
        for name, (calls, microseconds) in slowest
    ]


def _microseconds(event: object, is_cuda: bool) -> float:
    """Return the time of an event without the events within it; torch renamed the GPU's."""
    if not is_cuda:
        return event.self_cpu_time_total
    if hasattr(event, 'self_device_time_total'):
        return event.self_device_time_total
    return event.self_cuda_time_total
