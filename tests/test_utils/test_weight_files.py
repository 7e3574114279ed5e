"""Weight files of every kind load; of a hostile one nothing is run, in whatever way it is loaded."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from harmful import Harmful
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

import mmzeg.registry  # noqa: F401, as every use of mmzeg imports it
from mmzeg.utils.mmengine_checkpoints import load_url
from mmzeg.utils.weight_files import TRUST_VARIABLE, load_weight_file, read_state

ROOT = Path(__file__).parents[2]


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


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
        assert torch.equal(loaded['state_dict']['weight'], weights['weight']) and loaded['meta'] == dict(
            note='made here'
        )
        torch.testing.assert_close(read_state(tmp_path / name), weights)


HOSTILE_PICKLES = {
    'os.system': (Call(os.system, 'touch harmed'), 'needs posix.system'),
    'eval': (Call(eval, "__import__('pathlib').Path('harmed').touch()"), 'eval'),
    'torch.load': (Call(torch.load, 'other.pth'), 'torch.serialization.load'),
    'torch.hub': (Call(torch.hub.load_state_dict_from_url, 'http://localhost/a.pth'), 'torch.hub'),
    'pathlib': (Harmful(), 'needs pathlib'),
    'nested': (dict(hooks=[dict(state=[Harmful()])]), 'needs pathlib'),
    'getattr': (Call(getattr, torch.Size, '__new__'), 'needs Size.__new__'),
    'history buffer': (Call(getattr, HistoryBuffer, '__init__'), 'HistoryBuffer.__init__'),
    'pickle.loads': (Call(pickle.loads, pickle.dumps(Harmful())), 'pickle.loads'),
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', HOSTILE_PICKLES)
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, name, zipped):
    monkeypatch.chdir(tmp_path)
    hostile, message = HOSTILE_PICKLES[name]
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


def write_hostile(kind, path):
    """Write a file that is no pickle, and return what its error says."""
    header = {
        'huge header': struct.pack('<Q', 2**60) + b'{}',
        'overlap': dict(
            a=dict(dtype='F32', shape=[2], data_offsets=[0, 8]), b=dict(dtype='F32', shape=[2], data_offsets=[4, 12])
        ),
        'beyond the end': dict(a=dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])),
        'no json': struct.pack('<Q', 4) + b'{{{{',
    }
    if kind == 'zip bomb':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('archive/data.pkl', bytes(2**28))
            archive.writestr('archive/version', '3\n')
        return 'would unpack to'
    content = header[kind]
    if isinstance(content, dict):
        text = json.dumps(content).encode()
        content = struct.pack('<Q', len(text)) + text + bytes(12)
    path.write_bytes(content)
    return 'truncated or not a checkpoint; download it again'


@pytest.mark.parametrize('kind', ['zip bomb', 'huge header', 'overlap', 'beyond the end', 'no json'])
def test_memory_stays_bounded(tmp_path, kind):
    """Each file is refused in a process that may take no more than 64 MiB above what the imports take."""
    path = tmp_path / ('hostile.pth' if kind == 'zip bomb' else 'hostile.safetensors')
    message = write_hostile(kind, path)
    program = (
        'import resource, sys\n'
        'from mmzeg.utils.weight_files import load_weight_file\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'try:\n    load_weight_file(sys.argv[1])\n'
        'except ValueError as error:\n    print(error)\n'
        'print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n'
    )
    lines = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program, path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f'{path}: ') and message in lines[0]
    assert int(lines[1]) < 64


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
    run = subprocess.run(
        [sys.executable, ROOT / f'tools/{tool}.py', *arguments[tool]], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 2 and 'nothing of it was run' in run.stderr.splitlines()[-1]
    assert not (tmp_path / 'harmed').exists()
