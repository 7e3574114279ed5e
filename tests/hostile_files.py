"""Weight files that try to run code, or to take all memory; each would leave the file ``harmed``, or a dead process."""

import copy
import json
import os
import pickle
import struct
import subprocess
import zipfile

import torch
from harmful import Harmful
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mmzeg.publishing.config_json import dump_config
from mmzeg.publishing.publish import portable_config
from mmzeg.utils.config_files import read_config

CORRUPTED = 'truncated or not a checkpoint; download it again'
REFUSED = 'nothing of it was run'


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# Objects inside a pickle, and what the error says of them.
PICKLES = {
    'os.system': (Call(os.system, 'touch harmed'), 'needs posix.system'),
    'eval': (Call(eval, "__import__('pathlib').Path('harmed').touch()"), 'eval'),
    'exec': (Call(exec, "__import__('pathlib').Path('harmed').touch()"), 'exec'),
    'subprocess': (Call(subprocess.check_call, ['touch', 'harmed']), 'check_call'),
    'torch.load': (Call(torch.load, 'other.pth'), 'torch.serialization.load'),
    'torch.hub': (Call(torch.hub.load_state_dict_from_url, 'http://localhost/a.pth'), 'torch.hub'),
    'torch.jit': (Call(torch.jit.load, 'other.pt'), 'torch.jit'),
    'pathlib': (Harmful(), 'needs pathlib'),
    'nested': (dict(hooks=[dict(state=[Harmful()])]), 'needs pathlib'),
    'getattr': (Call(getattr, torch.Size, '__new__'), 'needs Size.__new__'),
    'history buffer': (Call(getattr, HistoryBuffer, '__init__'), 'HistoryBuffer.__init__'),
    'pickle.loads': (Call(pickle.loads, pickle.dumps(Harmful())), 'pickle.loads'),
}
# Safetensors headers; a dict is written as JSON.
HEADERS = {
    'huge header': struct.pack('<Q', 2**60) + b'{}',
    'overlap': dict(
        a=dict(dtype='F32', shape=[2], data_offsets=[0, 8]), b=dict(dtype='F32', shape=[2], data_offsets=[4, 12])
    ),
    'beyond the end': dict(a=dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])),
    'no json': struct.pack('<Q', 4) + b'{{{{',
    'large header': struct.pack('<Q', 2**25) + b'{"__metadata__":{"config":"' + b'[' * (2**25 - 27),
}
# Changes of a published config, field -> value, and what the error says of them.
CONFIGS = {
    'custom_imports': ({'custom_imports': dict(imports=['evil'])}, "'custom_imports' is refused"),
    '_base_': ({'_base_': 'evil.py'}, "'_base_' is refused"),
    'os.system': ({'model': dict(type='os.system', command='touch harmed')}, 'model.type'),
    'builtins.eval': (
        {'model.backbone': dict(type='builtins.eval', source="open('harmed', 'w')")},
        'model.backbone.type',
    ),
    'subprocess.Popen': (
        {'model.decode_head.loss_cls': dict(type='subprocess.Popen', args=['touch', 'harmed'])},
        'model.decode_head.loss_cls.type',
    ),
    'nested type': (
        {'model.decode_head.assigner.match_costs.1': dict(type='subprocess.call', args=['touch', 'harmed'])},
        'match_costs.1.type',
    ),
    'transform': ({'test_dataloader.dataset.pipeline.0': dict(type='os.mkdir', path='harmed')}, 'pipeline.0.type'),
    'module': ({'model.backbone.type': 'evil.Backbone'}, 'model.backbone.type'),
    'scope': ({'model.backbone._scope_': 'evil'}, 'model.backbone._scope_'),
    'type is a list': ({'model.backbone.type': ['os.system']}, 'model.backbone.type'),
    # Registered classes that read a file by name, unpickle it, or download it.
    'timm': (
        {'model.backbone': dict(type='TIMMBackbone', model_name='resnet18', checkpoint_path='evil.pth')},
        'model.backbone.type',
    ),
    'class_weight': ({'model.decode_head.loss_cls.class_weight': 'pkl'}, 'class_weight'),
    'init_cfg': (
        {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='http://localhost/evil.pth')},
        'model.backbone.init_cfg',
    ),
    'loading transform': (
        {'test_dataloader.dataset.pipeline.0': dict(type='LoadAnnotations', backend_args=dict(backend='http'))},
        'pipeline.0.type',
    ),
    'teacher': (
        {
            'model': dict(
                type='mmdet.KnowledgeDistillationSingleStageDetector', backbone={}, neck={}, teacher_config='evil.py'
            )
        },
        'model.type',
    ),
    'path': ({'model.backbone.style': '../evil.py'}, 'model.backbone.style'),
    'vocabulary file': ({'model.decode_head.classifier.vocabulary.classes': 'secret'}, 'vocabulary.classes'),
    'clip path': ({'model.scorer.clip.pretrained': '/etc/passwd'}, 'model.scorer.clip.pretrained'),
    'clip in configs': (
        {'model.scorer.clip.pretrained': dict(configs_file='../../evil.pth', fingerprint='a')},
        'model.scorer.clip.pretrained',
    ),
    'other clip': (
        {'model.scorer.clip.pretrained': dict(file='evil.pth', fingerprint='a')},
        'its text encoder reads .*evil.pth.* has another content',
    ),
    'cache folder': ({'model.scorer.clip.cache_dir': 'harmed'}, 'cache_dir'),
    'large images': (
        {'test_dataloader.dataset.pipeline.0': dict(type='Resize', scale=(10**6, 10**6))},
        'pixels a side',
    ),
    'padding': ({'model.data_preprocessor.size_divisor': 10**6}, 'pixels a side'),
    'large network': ({'model.decode_head.num_queries': 10**12}, 'the network would be far larger than its weights'),
    'deep network': (
        {'model.decode_head.transformer_decoder.num_layers': 10**9},
        'the network would be far larger than its weights',
    ),
    # Registered names in the place of another kind of class: MMEngine would import a module of this name.
    'transform as backbone': ({'model.backbone': dict(type='PackSegInputs')}, 'its config builds no model'),
    'assigner as backbone': ({'model.backbone': dict(type='mmzeg.HungarianAssigner')}, 'its config builds no model'),
    'loss as transform': ({'test_dataloader.dataset.pipeline.0': dict(type='FocalLoss')}, 'its config builds no model'),
    'unknown argument': ({'model.backbone.harm': True}, "its config builds no model .*'harm'"),
}
TEXTS = {
    'huge json': ('"' + 'a' * 2**21 + '"', 'more than'),
    'deep json': ('[' * 10**5 + ']' * 10**5, 'RecursionError'),
    'no object': ('[]', 'no JSON object'),
    'long number': ('{"model": ' + '9' * 10**5 + '}', 'no JSON'),
    'cut json': ('{"model": ', 'no JSON'),
}


def published_config():
    """Return a config as a published model has it."""
    return portable_config(read_config('zegformer_r18_world').to_dict())


def changed(config, changes):
    config = copy.deepcopy(config)
    for field, value in changes.items():
        *owners, name = field.split('.')
        owner = config
        for key in owners:
            owner = owner[int(key) if isinstance(owner, list) else key]
        owner[int(name) if isinstance(owner, list) else name] = value
    return config


def write_header(header, path):
    if isinstance(header, dict):
        text = json.dumps(header).encode()
        header = struct.pack('<Q', len(text)) + text + bytes(12)
    path.write_bytes(header)


def write_zip_bomb(path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(2**28))
        archive.writestr('archive/version', '3\n')


def write_config(config, path):
    """Write a file that a published model's config could be in; the weights are one number."""
    text = config if isinstance(config, str) else dump_config(config)
    save_file(dict(weight=torch.ones(1)), path, metadata=dict(config=text))


def write_hostile_files(folder):
    """Write all of them, and what they refer to; return name -> (file, regular expression of the error)."""
    for name in ('evil', 'PackSegInputs', 'HungarianAssigner', 'FocalLoss'):
        (folder / f'{name}.py').write_text("open('harmed', 'w')\n")
    (folder / 'secret').write_text('password\n')
    for name in ('evil.pth', 'pkl', 'other.pth'):
        (folder / name).write_bytes(pickle.dumps(Harmful()))
    files = {}
    for name, (content, message) in PICKLES.items():
        for kind, zipped in (('zip', True), ('legacy', False)):
            path = folder / f'pickle_{name.replace(" ", "_")}_{kind}.pth'
            torch.save(dict(state_dict=dict(hostile=content)), path, _use_new_zipfile_serialization=zipped)
            files[f'pickle: {name} ({kind})'] = path, f'{message}.*{REFUSED}'
    files['zip bomb'] = folder / 'bomb.pth', f'would unpack to.*{REFUSED}'
    write_zip_bomb(files['zip bomb'][0])
    for name, header in HEADERS.items():
        path = folder / f'header_{name.replace(" ", "_")}.safetensors'
        write_header(header, path)
        files[f'safetensors: {name}'] = path, CORRUPTED
    published = published_config()
    for name, (changes, message) in CONFIGS.items():
        path = folder / f'config_{name.replace(" ", "_")}.safetensors'
        write_config(changed(published, changes), path)
        files[f'config: {name}'] = path, message
    for name, (text, message) in TEXTS.items():
        path = folder / f'text_{name.replace(" ", "_")}.safetensors'
        write_config(text, path)
        files[f'config: {name}'] = path, message
    nan = dict(weight=torch.full((2,), torch.nan))
    save_file(nan, folder / 'nan.safetensors', metadata=dict(config=dump_config(published)))
    torch.save(dict(state_dict=nan), folder / 'nan.pth')
    for suffix in ('safetensors', 'pth'):
        files[f'NaN weights ({suffix})'] = folder / f'nan.{suffix}', 'weight is NaN'
    return files
