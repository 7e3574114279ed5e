"""What tools/setup_env.sh refuses before it installs anything: wrong arguments, and a disk without space."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools/setup_env.sh'


def set_up(folder, *arguments, free_gb, **variables):
    """Run the script on a disk with this many GB free, as far as `df` tells; pip reaches no index."""
    (folder / 'bin').mkdir(parents=True)
    (folder / 'bin/df').write_text(f'#!/bin/sh\necho Filesystem\necho disk 0 0 {int(free_gb * 1024**2)} 0% /\n')
    (folder / 'bin/df').chmod(0o755)
    environment = dict(PATH=f'{folder}/bin:/usr/bin:/bin', PIP_NO_INDEX='1', PIP_RETRIES='0', **variables)
    return subprocess.run(['bash', SCRIPT, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('stack, free_gb', [('official', 8.9), ('onedl', 11.9)])
def test_full_disk(tmp_path, stack, free_gb):
    run = set_up(tmp_path, stack, tmp_path / 'new/environment', 'true', free_gb=free_gb)
    (line,) = run.stderr.splitlines()
    assert run.returncode == 2 and run.stdout == '' and not (tmp_path / 'new').exists()
    assert f'the {stack} stack needs' in line and f'{int(free_gb)} GB free' in line and 'make VENV=' in line


def test_a_torch_without_cuda_needs_less(tmp_path):
    run = set_up(tmp_path, 'official', tmp_path / 'new', 'true', free_gb=5.5, NEEDED_GB='5')
    assert 'GB free' not in run.stderr
    run = set_up(tmp_path / 'other', 'official', tmp_path / 'new', 'true', free_gb=4.5, NEEDED_GB='5')
    assert run.returncode == 2 and 'needs 5 GB' in run.stderr


@pytest.mark.parametrize('exists', [True, False])
def test_enough_space_or_an_environment_to_complete(tmp_path, exists):
    folder = tmp_path / 'environment'
    if exists:
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    run = set_up(tmp_path, 'onedl', folder, sys.executable, free_gb=1 if exists else 12.1)
    assert '[1/4] torch' in run.stdout and 'GB free' not in run.stderr and (folder / 'bin/python').exists()


@pytest.mark.parametrize(
    'stack, python, message', [('other', 'true', "unknown STACK 'other'"), ('official', 'false', 'Name another')]
)
def test_wrong_arguments(tmp_path, stack, python, message):
    run = set_up(tmp_path, stack, tmp_path / 'environment', python, free_gb=100)
    assert run.returncode == 2 and message in run.stderr.splitlines()[0] and not (tmp_path / 'environment').exists()
