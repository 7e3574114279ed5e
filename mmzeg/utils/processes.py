"""Environment and threads of processes that train or draw on a CPU."""

import os

import torch

# The C library keeps freed memory, in large pages, and does not ask the system for it again at every tensor. Trainings
# on a CPU take an eighth less time. Only glibc reads these variables; other C libraries ignore them.
KEEP_MEMORY = dict(
    MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**31), GLIBC_TUNABLES='glibc.malloc.hugetlb=1'
)


def training_environment(num_threads: int | None = None) -> dict[str, str]:
    """Return the environment of a training on a CPU: this process's, with ``KEEP_MEMORY`` where it sets nothing else.

    Args:
        num_threads (int, optional): Threads of the training. Defaults to what this process's environment says.
    """
    environment = KEEP_MEMORY | os.environ
    if num_threads is not None:
        environment['OMP_NUM_THREADS'] = str(num_threads)
    return environment


def use_one_thread(worker: int) -> None:
    """Limit a data loading worker to one thread, as it draws while other workers do (``worker_init_fn``)."""
    torch.set_num_threads(1)
