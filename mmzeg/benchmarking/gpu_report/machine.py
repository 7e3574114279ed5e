"""The machine and the packages on which a report was made."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import mmzeg
from mmzeg.utils.versions import REQUIREMENTS

OTHER_PACKAGES = ('torchvision', 'numpy', 'pillow', 'mmdet', 'safetensors')


def describe_machine(device: torch.device) -> dict[str, str]:
    """Return name -> value of device, driver, processor and package versions."""
    machine = {'device': str(device), 'processor': _processor(), 'cores': str(os.cpu_count())}
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        machine['GPU'] = properties.name
        machine['GPU memory'] = f'{properties.total_memory / 2**30:.0f} GiB'
        machine['compute capability'] = f'{properties.major}.{properties.minor}'
        machine['driver'] = _driver_version()
        machine['CUDA'] = str(torch.version.cuda)
        machine['cuDNN'] = str(torch.backends.cudnn.version())
    machine['threads'] = str(torch.get_num_threads())
    machine['Python'] = platform.python_version()
    machine['torch'] = torch.__version__
    machine['mmzeg'] = mmzeg.__version__
    for names in (*(names for names, *_ in REQUIREMENTS), *((name,) for name in OTHER_PACKAGES)):
        for name in names:
            try:
                machine[name] = version(name)
            except PackageNotFoundError:
                continue
            break
    return machine


def _processor() -> str:
    """Return the processor's name."""
    cpu_info = Path('/proc/cpuinfo')
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _driver_version() -> str:
    """Return the version of the GPU's driver."""
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return 'unknown'
