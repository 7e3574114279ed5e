"""Environment, threads and communication of processes that train or draw on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS

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


def run_program(
    program: Path,
    *arguments: object,
    log: Path,
    launcher: tuple[str, ...] = (),
    num_threads: int | None = None,
) -> None:
    """Run a Python program in ``training_environment`` and append what it prints to a log.

    Args:
        program (Path): File of the program.
        arguments: Its arguments.
        log (Path): File to append to; its folder is made.
        launcher (tuple[str, ...]): Arguments of Python before the program, such as ``-m torch.distributed.run``.
        num_threads (int, optional): See ``training_environment``.

    Raises:
        ValueError: The program failed; names the log.
    """
    print(f'{program.name} -> {log}', file=sys.stderr, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *launcher, str(program), *map(str, arguments)]
    environment = training_environment(num_threads)
    with log.open('a') as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    if code:
        raise ValueError(f'{program.name} failed with exit code {code}: see {log}')


def use_one_thread(worker: int) -> None:
    """Limit a data loading worker to one thread, as it draws while other workers do (``worker_init_fn``)."""
    torch.set_num_threads(1)


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """Wrap a model on the CPU for several processes; mmengine passes the GPU's number to every wrapper."""

    def __init__(self, module: torch.nn.Module, device_ids: object = None, **kwargs: object) -> None:
        super().__init__(module=module, **kwargs)


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let several processes train or test on a machine without a GPU: gloo in place of nccl; print that in one line.

    Does nothing with a GPU, with one process, or with a launcher other than ``pytorch``. mmengine selects a GPU before
    it starts a group, so the group is started here.

    Args:
        cfg (Config): A complete config; changed in place. ``launcher`` says how the processes were started.
    """
    if cfg.get('launcher') != 'pytorch' or torch.cuda.is_available():
        return
    # Choose backend and wrapper for the CPU.
    dist_cfg = cfg.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict(backend='nccl'))
    if dist_cfg.get('backend') == 'nccl':
        dist_cfg.backend = 'gloo'
        if os.environ.get('RANK', '0') == '0':
            print('no GPU: env_cfg.dist_cfg.backend is gloo instead of nccl', flush=True)
    wrapper_cfg = cfg.get('model_wrapper_cfg') or dict(
        broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
    )
    if wrapper_cfg.get('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
        cfg.model_wrapper_cfg = ConfigDict(wrapper_cfg, type='CPUDistributedDataParallel')
    # Start the group; mmengine then uses it.
    if not is_distributed():
        torch.distributed.init_process_group(backend=dist_cfg.backend)
