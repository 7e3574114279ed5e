"""Run a function in two processes of a gloo group."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp


def run_two(function: Callable, folder: Path, *arguments) -> None:
    """Call ``function(rank, folder, *arguments)`` in two processes of a group; raise the error that either raises."""
    mp.spawn(_run_rank, (function, folder, *arguments), nprocs=2)


def _run_rank(rank: int, function: Callable, folder: Path, *arguments) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    function(rank, folder, *arguments)
    # torch 2.1's gloo group waits in its destructor, holding the GIL, for a thread that wants the GIL: leave it alive.
    os._exit(0)
