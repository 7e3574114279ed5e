"""tools/train.py and tools/test.py on a small CamVid-like tree, killed, resumed, and given bad input."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from python_runs import run_python

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs' / 'zegformer_r18_camvid.py'


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
            folder = tmp_path / 'camvid' / kind / split
            folder.mkdir(parents=True)
            for index in range(3):
                values = generator.integers(0, 255, (96, 128, 3)) if kind == 'images' else np.full((96, 128), index)
                Image.fromarray(values.astype(np.uint8)).save(folder / f'{index}.{suffix}')
    return tmp_path / 'camvid'


def run(tool, *arguments, data, work_dir, patch='', options=()):
    fields = [f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test')]
    fields += [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
    fields += [f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')]
    fields += ['model.backbone.base_channels=8', 'model.backbone.stem_channels=8', *options]
    code = f'{patch}\nimport runpy, sys\nsys.argv[0] = {tool!r}\nrunpy.run_path({tool!r}, run_name="__main__")'
    command = ['-c', code, str(CONFIG), *arguments, '--work-dir', str(work_dir), '--cfg-options']
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    return run_python([*command, *fields], ROOT, environment)


TRAIN, TEST = str(ROOT / 'tools' / 'train.py'), str(ROOT / 'tools' / 'test.py')
SHORT = ('train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=1')
# SIGKILL while the third checkpoint is written: half of its bytes are on disk.
KILL = """
import io, os, torch
from mmengine.runner import Runner
original = Runner.save_checkpoint
def save(self, out_dir, filename, *args, **kwargs):
    original(self, out_dir, filename, *args, **kwargs)
    if 'iter_3' in filename:
        path = os.path.join(out_dir, filename)
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), 9)
Runner.save_checkpoint = save
"""


def test_train_killed_while_saving_resumed_and_tested(data, tmp_path):
    work = tmp_path / 'work'
    killed = run(TRAIN, data=data, work_dir=work, patch=KILL, options=SHORT)
    assert killed.returncode == -9, killed.stderr
    named = (work / 'last_checkpoint').read_text()
    assert named.endswith('iter_2.pth') and 'state_dict' in torch.load(named, weights_only=False)
    resumed = run(TRAIN, '--resume', data=data, work_dir=work, options=SHORT)
    assert resumed.returncode == 0, resumed.stderr
    assert 'resumed epoch: 0, iter: 2' in resumed.stdout + resumed.stderr
    assert [path.name for path in work.glob('*.pth*')] == ['iter_4.pth']
    tested = run(TEST, str(work / 'iter_4.pth'), '--out', str(tmp_path / 'maps'), data=data, work_dir=work)
    assert tested.returncode == 0, tested.stderr
    assert 'seen_mIoU' in tested.stdout + tested.stderr
    assert len(list((tmp_path / 'maps').glob('*.png'))) == 3
    report = json.loads((work / 'report.json').read_text())
    assert len(report['classes']) == 11 and report['metrics']['unseen_mIoU'] is None
    assert len(report['checkpoint']['hash']) == 64 and report['packages']['mmzeg']
    # tests/test_tools/test_benchmarks.py compares two that differ.
    command = [str(ROOT / 'tools/analysis_tools/compare_results.py')]
    path = str(work / 'report.json')
    same = run_python([*command, path, path])
    assert 'the same config, checkpoint, CLIP and packages' in same.stdout
    refused = run_python([*command, path, str(CONFIG)])
    assert refused.returncode == 2 and 'not a report of tools/test.py' in refused.stderr
    narrower = run(
        TEST, str(work / 'iter_4.pth'), data=data, work_dir=work, options=['model.decode_head.num_queries=7']
    )
    assert narrower.returncode == 2 and 'another width or backbone' in narrower.stderr.splitlines()[-1]
    augmented = run(
        TEST, str(work / 'iter_4.pth'), '--tta', '--show-dir', str(tmp_path / 'drawn'), data=data, work_dir=work
    )
    assert augmented.returncode == 0, augmented.stderr
    assert len(list(tmp_path.glob('drawn/**/*.png'))) == 3


@pytest.mark.parametrize(
    'options, message',
    [
        (['train_dataloader.dataset.data_root=nowhere'], 'nowhere/images/train: no such data folder'),
        (["train_dataloader.dataset.metainfo.classes=['sky','zebra']"], "class 'zebra' is not among the labels"),
        (["train_dataloader.dataset.metainfo.classes=['sky','sky']"], "class 'sky' is listed twice"),
        (["train_dataloader.dataset.metainfo.classes=['sky','road']"], "class 1 is 'road' in the training dataset"),
        (['load_from=gone.pth'], 'gone.pth: no such checkpoint'),
        (['optim_wrapper.type=AmpOptimWrapper'], 'mixed precision (AmpOptimWrapper) needs a GPU'),
    ],
)
def test_bad_input_ends_in_one_line(data, tmp_path, monkeypatch, options, message):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    result = run(TRAIN, data=data, work_dir=tmp_path / 'work', options=(*SHORT, *options))
    assert result.returncode == 2, result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    'label, options, message',
    [
        (np.full((96, 100), 1), ['train_dataloader.num_workers=1'], '.png is 100 x 96 pixels but its image'),
        (np.full((96, 128), 77), [], '.png: label value 77 reached the loss'),
    ],
)
def test_bad_labels_end_in_one_line(data, tmp_path, label, options, message):
    for path in (data / 'annotations' / 'train').iterdir():
        Image.fromarray(label.astype(np.uint8)).save(path)
    result = run(TRAIN, data=data, work_dir=tmp_path / 'work', options=(*SHORT, *options))
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f'mmzeg: error: {data}') and message in last
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize('kind', ['images', 'annotations'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_truncated_files_are_named(data, tmp_path, kind, backend):
    for path in (data / kind / 'train').iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    options = (*SHORT, f'train_dataloader.dataset.pipeline.0.imdecode_backend={backend}')
    result = run(TRAIN, data=data, work_dir=tmp_path / 'work', options=(*options, 'train_dataloader.num_workers=1'))
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f'mmzeg: error: {data}/{kind}/train/') and 'truncated or not an image' in last


def test_8_bit_label_maps_of_more_than_256_classes_are_refused(tmp_path):
    command = [TEST, 'configs/zegformer_r50_ade-full.py', 'none.pth', '--out', str(tmp_path / 'maps')]
    result = run_python(command, ROOT)
    assert result.returncode == 2 and 'more than 256 classes' in result.stderr.splitlines()[-1]
    assert not (tmp_path / 'maps').exists()
