"""The processes of a labelling run: started by torchrun or Slurm, or a single one."""

import datetime
import os
import subprocess

import torch
import torch.distributed as torch_dist
from mmengine.dist import broadcast_object_list, get_dist_info

LAUNCHERS = ('none', 'pytorch', 'slurm')
# Processes wait for each other at the end only, however long that takes.
_TIMEOUT = datetime.timedelta(days=365)


def join_process_group(launcher: str) -> tuple[int, int]:
    """Join the group of processes.

    The group communicates by gloo, also with GPUs: processes exchange lists of files, and no tensors.

    Args:
        launcher (str): ``none``: a single process. ``pytorch``: torchrun started this process. ``slurm``: srun did.

    Returns:
        tuple[int, int]: The number of this process, and how many there are.

    Raises:
        ValueError: The launcher did not start this process.
    """
    if launcher == 'none':
        return 0, 1
    if launcher == 'slurm':
        os.environ |= _slurm_environment()
    elif 'RANK' not in os.environ:
        raise ValueError('--launcher pytorch: torchrun did not start this process: run torchrun tools/label.py ...')
    if torch.cuda.is_available():
        torch.cuda.set_device(_local_rank())
    torch_dist.init_process_group('gloo', timeout=_TIMEOUT)
    return get_dist_info()


def process_device(launcher: str, device: str | None) -> str | None:
    """Return the device of this process: with a launcher and GPUs, the GPU of its number on the machine."""
    if launcher == 'none' or device not in (None, 'cuda') or not torch.cuda.is_available():
        return device
    return f'cuda:{_local_rank()}'


def share(value: object) -> object:
    """Return the first process's value in every process."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def leave_process_group() -> None:
    """Leave the group, once all processes are done and have met at a barrier.

    Not after an error: PyTorch 2.1 waits for ever where a group is left right after ``share``, as gloo's thread still
    holds the tensors that were sent. Groups that are not left end with the process.
    """
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def _local_rank() -> int:
    # More processes than GPUs share them.
    return int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()


def _slurm_environment() -> dict[str, str]:
    """Return the variables that torch.distributed reads, from Slurm's, as mmengine sets them."""
    try:
        rank, size, nodes = (os.environ[name] for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'))
    except KeyError as error:
        raise ValueError(f'--launcher slurm: srun did not start this process, as {error} is not set') from error
    if 'MASTER_ADDR' in os.environ:
        address = os.environ['MASTER_ADDR']
    else:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        address = hosts.stdout.split()[0]
    return dict(
        RANK=rank,
        WORLD_SIZE=size,
        LOCAL_RANK=os.environ.get('SLURM_LOCALID', '0'),
        MASTER_ADDR=address,
        MASTER_PORT=os.environ.get('MASTER_PORT', '29500'),
    )
