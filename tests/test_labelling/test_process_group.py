"""Joining the processes that torchrun or Slurm started."""

import socket

import pytest
import torch

from mmzeg.labelling import process_group
from mmzeg.labelling.process_group import join_process_group, leave_process_group, process_device, share

SCONTROL = '#!/bin/sh\ntest "$3" = "node[1-2]" && printf "127.0.0.1\\nnode2\\n"\n'


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """The environment of a task that srun started, with a scontrol that knows the nodes."""
    (tmp_path / 'scontrol').write_text(SCONTROL)
    (tmp_path / 'scontrol').chmod(0o755)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        monkeypatch.setenv('MASTER_PORT', str(free.getsockname()[1]))
    monkeypatch.setenv('PATH', f'{tmp_path}:/bin:/usr/bin')
    for name, value in dict(PROCID='0', NTASKS='1', LOCALID='3', NODELIST='node[1-2]').items():
        monkeypatch.setenv(f'SLURM_{name}', value)


def test_slurm_without_a_gpu(slurm, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    try:
        assert join_process_group('slurm') == (0, 1)
        assert torch.distributed.get_backend() == 'gloo'
        assert process_group.os.environ['MASTER_ADDR'] == '127.0.0.1'
        assert share(dict(a=1)) == dict(a=1)
    finally:
        leave_process_group()
    assert not torch.distributed.is_initialized()


def test_one_process_alone():
    assert join_process_group('none') == (0, 1) and share([2]) == [2]
    assert not torch.distributed.is_initialized()


def test_every_process_has_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert process_device('pytorch', None) == process_device('slurm', 'cuda') == 'cuda:1'
    assert process_device('pytorch', 'cpu') == 'cpu' and process_device('pytorch', 'cuda:0') == 'cuda:0'
    assert process_device('none', None) is None
    monkeypatch.setenv('LOCAL_RANK', '5')
    assert process_device('pytorch', None) == 'cuda:1'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert process_device('pytorch', None) is None
