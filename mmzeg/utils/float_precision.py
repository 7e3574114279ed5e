"""Float32 without TF32, in which a GPU computes convolutions by default: its mantissa has 10 bits, not 23."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 matrix products and convolutions in float32 within the ``with`` block; a CPU always does."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    settings = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allow_tf32 in zip(backends, settings, strict=True):
            backend.allow_tf32 = allow_tf32
