"""Environment and communication of trainings on a CPU."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.registry import MODEL_WRAPPERS

from mmzeg.utils.processes import KEEP_MEMORY, run_program, training_environment, use_gloo_without_gpu


def test_a_variable_of_the_user_is_kept(monkeypatch):
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '7')
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    environment = training_environment()
    assert environment['GLIBC_TUNABLES'] == KEEP_MEMORY['GLIBC_TUNABLES']
    assert environment['MALLOC_TRIM_THRESHOLD_'] == '7' and environment['OMP_NUM_THREADS'] == '5'
    assert training_environment(num_threads=2)['OMP_NUM_THREADS'] == '2'


def test_programs_append_to_a_log(tmp_path):
    program = tmp_path / 'tool.py'
    program.write_text(
        "import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS']); sys.exit(len(sys.argv) - 2)"
    )
    log = tmp_path / 'logs/tool.log'
    run_program(program, 1, log=log, num_threads=3)
    with pytest.raises(ValueError, match=re.escape(f'tool.py failed with exit code 1: see {log}')):
        run_program(program, 'a', 2.5, log=log, num_threads=3)
    assert log.read_text() == "['1'] 3\n['a', '2.5'] 3\n"


def test_gloo_replaces_nccl_without_a_gpu(monkeypatch, capsys):
    """mmengine selects a GPU for the group and for the wrapper of the model; neither may happen here."""
    variables = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='29617')
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = Config(dict(launcher='none', env_cfg=dict(dist_cfg=dict(backend='nccl'))))
    use_gloo_without_gpu(cfg)
    assert cfg.env_cfg.dist_cfg.backend == 'nccl' and not is_distributed()
    cfg.launcher = 'pytorch'
    use_gloo_without_gpu(cfg)
    try:
        assert torch.distributed.get_backend() == 'gloo' == cfg.env_cfg.dist_cfg.backend
        assert capsys.readouterr().out == 'no GPU: env_cfg.dist_cfg.backend is gloo instead of nccl\n'
        defaults = dict(device_ids=[0], module=torch.nn.Linear(2, 1))
        model = MODEL_WRAPPERS.build(cfg.model_wrapper_cfg, default_args=defaults)
        model(torch.ones(1, 2)).sum().backward()
        assert model.module.weight.grad.sum() == 2
    finally:
        torch.distributed.destroy_process_group()
