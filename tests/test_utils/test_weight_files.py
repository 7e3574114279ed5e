"""Weight files of every kind load; of a hostile one nothing is run, in whatever way it is loaded."""

import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from harmful import Harmful
from hostile_files import CORRUPTED, HEADERS, PICKLES, write_header, write_zip_bomb
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from python_runs import run_python
from safetensors.torch import save_file

import mmzeg.registry  # noqa: F401, as every use of mmzeg imports it
from mmzeg.utils.mmengine_checkpoints import load_url
from mmzeg.utils.trusted_files import TRUST_VARIABLE, trust_file
from mmzeg.utils.weight_files import load_weight_file, read_metadata, read_state

ROOT = Path(__file__).parents[2]


def checkpoint_content():
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    hub = MessageHub.get_instance('weight files')
    hub.update_scalar('loss', 1.5)
    hub.update_info('lr', np.float64(0.1))
    return dict(
        state_dict=network.state_dict(),
        optimizer=optimizer.state_dict(),
        message_hub=hub.state_dict(),
        meta=dict(epoch=1, cfg='model = None', dataset_meta=dict(classes=('sky', 'road'), palette=[[1, 2, 3]])),
        config=ConfigDict(a=dict(b=1)),
        half=torch.ones(2).half(),
        parameter=torch.nn.Parameter(torch.ones(2)),
        numbers=np.arange(3),
        plain=({1, 2}, torch.float32, torch.Size([1]), torch.device('cpu'), b'bytes', 1.5, None),
    )


class OneLayer(BaseModel):
    """A model of one layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_runner_s_checkpoint_loads(tmp_path, zipped):
    content = checkpoint_content()
    path = tmp_path / 'iter_1.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded = load_weight_file(path)
    assert loaded.keys() == content.keys()
    torch.testing.assert_close(loaded['state_dict'], content['state_dict'])
    torch.testing.assert_close(loaded['optimizer'], content['optimizer'])
    assert (
        loaded['meta'] == content['meta']
        and loaded['config'] == content['config']
        and loaded['plain'] == content['plain']
    )
    assert torch.equal(loaded['half'], content['half']) and torch.equal(loaded['parameter'], content['parameter'])
    assert loaded['numbers'].tolist() == [0, 1, 2] and loaded['message_hub']['runtime_info']['lr'] == 0.1
    assert isinstance(loaded['message_hub']['log_scalars']['loss'], HistoryBuffer)
    assert loaded['message_hub']['log_scalars']['loss'].current() == 1.5
    assert read_state(path).keys() == {'weight', 'bias'}


def test_safetensors_loads_by_any_name(tmp_path):
    weights = dict(weight=torch.rand(2, 3))
    for name in ('model.safetensors', 'model.pth'):
        save_file(weights, tmp_path / name, metadata=dict(note='made here'))
        loaded = load_weight_file(tmp_path / name)
        assert torch.equal(loaded['state_dict']['weight'], weights['weight'])
        assert loaded['meta'] == read_metadata(tmp_path / name) == dict(note='made here')
        torch.testing.assert_close(read_state(tmp_path / name), weights)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', PICKLES)
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, name, zipped):
    monkeypatch.chdir(tmp_path)
    hostile, message = PICKLES[name]
    torch.save(checkpoint_content() | dict(hostile=hostile), 'hostile.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match='hostile.pth: not a plain checkpoint .* nothing of it was run') as error:
        load_weight_file('hostile.pth')
    assert message in str(error.value) and '\n' not in str(error.value)
    assert not Path('harmed').exists()


@pytest.mark.parametrize('attribute', [b'current', b'__setstate__'])
def test_a_pickle_changes_no_class(tmp_path, attribute):
    """GLOBAL HistoryBuffer; BUILD with (None, {attribute: set}), which sets attributes of any object."""
    stream = (
        b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\nN}X'
        + struct.pack('<I', len(attribute))
        + attribute
        + b'c__builtin__\nset\ns\x86b.'
    )
    before = vars(HistoryBuffer)[attribute.decode()]
    path = tmp_path / 'hostile.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', stream)
        archive.writestr('archive/version', '3\n')
    with pytest.raises(ValueError, match='it changes HistoryBuffer.*nothing of it was run'):
        load_weight_file(path)
    assert vars(HistoryBuffer)[attribute.decode()] is before


def test_memory_stays_bounded(tmp_path):
    """Refused in a process that may take no more than 64 MiB above what the imports take."""
    write_zip_bomb(tmp_path / 'bomb.pth')
    for name, header in HEADERS.items():
        write_header(header, tmp_path / f'{name}.safetensors')
    paths = sorted(tmp_path.iterdir())
    program = (
        'import resource, sys\n'
        'from mmzeg.utils.weight_files import load_weight_file, read_metadata\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'for path in sys.argv[1:]:\n'
        '    for read in (load_weight_file, read_metadata):\n'
        '        try:\n            read(path)\n'
        '        except ValueError as error:\n            print(error)\n'
        'print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n'
    )
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program, *paths], capture_output=True, text=True, check=True
    )
    *lines, growth = run.stdout.splitlines()
    assert len(lines) == 2 * len(paths) == 2 * (len(HEADERS) + 1)
    for index, line in enumerate(lines):
        path = paths[index // 2]
        is_bomb = path.suffix == '.pth' and index % 2 == 0
        assert line.startswith(f'{path}: ') and ('would unpack to' if is_bomb else CORRUPTED) in line
    assert int(growth) < 64


def test_mmengine_loads_through_it(tmp_path, monkeypatch):
    """What ``load_from``, ``resume``, ``init_cfg`` and MMEngine's inferencers call, for files and URLs."""
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), 'plain.pth')
    save_file(dict(weight=torch.ones(2)), 'plain.safetensors')
    torch.save(dict(state_dict=Harmful()), 'hostile.pth')
    for name in ('plain.pth', 'plain.safetensors'):
        assert CheckpointLoader.load_checkpoint(name, 'cpu')['state_dict']['weight'].tolist() == [1, 1]
    with pytest.raises(ValueError, match='nothing of it was run'):
        CheckpointLoader.load_checkpoint('hostile.pth', 'cpu')
    module = BaseModule(init_cfg=dict(type='Pretrained', checkpoint='hostile.pth'))
    with pytest.raises(ValueError, match='nothing of it was run'):
        module.init_weights()
    # A URL whose file is in torch's cache already.
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    Path('hub/checkpoints').mkdir(parents=True)
    Path('hostile.pth').rename('hub/checkpoints/hostile.pth')
    with pytest.raises(ValueError, match='nothing of it was run'):
        CheckpointLoader.load_checkpoint('https://localhost/models/hostile.pth', 'cpu')
    assert not Path('harmed').exists()


def test_a_url_out_of_reach_is_named(tmp_path):
    with pytest.raises(ConnectionError, match='http://127.0.0.1:9/a.pth: cannot be downloaded .* copy it to'):
        load_url('http://127.0.0.1:9/a.pth', model_dir=str(tmp_path), progress=False)


def test_only_a_trusted_file_runs_its_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=Harmful()), 'mine.pth')
    torch.save(dict(state_dict=Harmful()), 'other.pth')
    monkeypatch.setenv(TRUST_VARIABLE, os.pathsep.join(['mine.pth', 'gone.pth']))
    with pytest.raises(ValueError, match='nothing of it was run'):
        load_weight_file('other.pth')
    assert not Path('harmed').exists()
    load_weight_file('mine.pth')
    assert Path('harmed').exists()


def test_trust_is_given_to_one_file_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, '')
    torch.save(dict(state_dict=Harmful()), 'mine.pth')
    with pytest.raises(ValueError, match=f'add --trust-file mine.pth, or set {TRUST_VARIABLE}=mine.pth$'):
        load_weight_file('mine.pth')
    assert not Path('harmed').exists()
    trust_file('other.pth')
    with pytest.raises(ValueError, match='nothing of it was run'):
        load_weight_file('mine.pth')
    trust_file('mine.pth')
    # By its absolute path, wherever the process goes.
    monkeypatch.chdir('/')
    load_weight_file(tmp_path / 'mine.pth')


def test_resuming_runs_no_config_text(tmp_path, monkeypatch):
    """MMEngine's runner would run ``meta['config']``, which OpenMMLab 1.x saved, when it resumes."""
    monkeypatch.chdir(tmp_path)
    harmful = "from pathlib import Path\nPath('harmed').touch()"
    meta = dict(config=harmful, cfg=harmful, iter=1, epoch=0)
    hub = MessageHub.get_instance('resuming').state_dict()
    torch.save(dict(state_dict={}, meta=meta, message_hub=hub), 'iter_1.pth')
    assert load_weight_file('iter_1.pth')['meta']['config'] == harmful
    model = torch.nn.Linear(1, 1)
    runner = Runner(
        OneLayer(model),
        work_dir='work',
        train_dataloader=dict(dataset=[1], sampler=dict(type='DefaultSampler'), batch_size=1),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    )
    runner.resume('iter_1.pth', resume_optimizer=False, resume_param_scheduler=False)
    assert runner.iter == 1 and not Path('harmed').exists()


@pytest.mark.parametrize('tool', ['train', 'test', 'demo'])
def test_tools_refuse_a_hostile_checkpoint(tmp_path, tool):
    torch.save(dict(state_dict=Harmful()), tmp_path / 'hostile.pth')
    (tmp_path / 'image.png').write_bytes(b'')
    config = str(ROOT / 'configs/zegformer_r18_world.py')
    arguments = {
        'train': [config, '--cfg-options', 'load_from=hostile.pth'],
        'test': [config, 'hostile.pth'],
        'demo': [config, 'hostile.pth', 'image.png', '--out', 'out'],
    }
    run = run_python([ROOT / f'tools/{tool}.py', *arguments[tool]], tmp_path)
    assert run.returncode == 2 and 'nothing of it was run' in run.stderr.splitlines()[-1]
    assert not (tmp_path / 'harmed').exists()
