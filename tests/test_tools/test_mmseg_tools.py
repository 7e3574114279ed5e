"""mmseg's tools, MMEngine's backends and the files of docs/en/mmseg_tools.md, on the procedural dataset's config."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import mmengine.fileio as fileio
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.utils import digit_version
from mmseg.registry import DATASETS
from mmseg.utils import register_all_modules
from PIL import Image
from python_runs import run_python

from mmzeg.datasets.world import Scene, draw_scene, scene_uri

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/en/mmseg_tools.md').read_text()
CONFIG = 'configs/zegformer_r18_world.py'
ANALYSIS = 'mmseg_files/tools/analysis_tools'
LENGTHS = dict(train=3, val=2, test=4)
SMALL = [f'{split}_dataloader.dataset.{key}' for split, n in LENGTHS.items() for key in ('size=64', f'length={n}')]
SMALL += [f'{split}_dataloader.{key}' for split in LENGTHS for key in ('num_workers=0', 'persistent_workers=False')]
SHORT = ['train_cfg.max_iters=2', 'train_dataloader.batch_size=2', 'default_hooks.logger.interval=1']
# Without random flips, the drawn image equals the dataset's.
SMALL += ['train_dataloader.dataset.pipeline.1.prob=0.0']


def files_of_the_page():
    return dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return a function that runs a command in a folder with the page's files and its link to mmseg's."""
    folder = tmp_path_factory.mktemp('mmseg_tools')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    for name, text in files_of_the_page().items():
        (folder / name).write_text(text)
    variables = {f'WANDB_{kind}_DIR': str(folder) for kind in ('CONFIG', 'CACHE', 'DATA')}
    variables |= dict(PYTHONPATH=f'.:{ROOT}', PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    environment = os.environ | variables | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', WANDB_SILENT='true')

    def run(*command, options=None):
        command = [*map(str, command), *(['--cfg-options', *options] if options else [])]
        if command[0] == 'python':
            return run_python(command[1:], folder, environment)
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    link = re.search(r'^ln -s .*$', PAGE, re.M).group()
    assert run('bash', '-c', link).returncode == 0
    run.folder = folder
    return run


@pytest.fixture
def run_script(run, monkeypatch, capsys):
    """Return a function that runs a script in this process, where imports are done, and returns its output."""

    def run_script(script, *arguments, options=None):
        monkeypatch.chdir(run.folder)
        monkeypatch.syspath_prepend(str(run.folder))
        monkeypatch.setenv('MPLBACKEND', 'agg')
        arguments = [*map(str, arguments), *(['--cfg-options', *options] if options else [])]
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        runpy.run_path(script, run_name='__main__')
        return capsys.readouterr().out

    return run_script


@pytest.fixture(scope='module')
def trained(run):
    """Train with mmseg's train.py, drawn images and all three backends; return the folder of their output."""
    work = run.folder / 'work'
    command = ['python', 'mmseg_files/tools/train.py', 'tracked.py', '--work-dir', work]
    result = run(*command, options=[*SMALL, *SHORT])
    assert result.returncode == 0, result.stderr
    (vis_data,) = work.glob('*/vis_data')
    return vis_data


@pytest.fixture(scope='module')
def tested(run, trained):
    """Test the trained model; return the folder of its label maps."""
    command = ['python', 'tools/test.py', CONFIG, 'work/iter_2.pth', '--work-dir', 'tested', '--show-dir', 'drawn']
    # The test needs no training data.
    result = run(*command, '--out', 'maps', options=[*SMALL, 'train_dataloader.dataset.split=nowhere'])
    assert result.returncode == 0, result.stderr
    return run.folder / 'maps'


@pytest.fixture(scope='module')
def datasets():
    register_all_modules(init_default_scope=False)
    scope = DefaultScope.get_current_instance()
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / CONFIG)
    cfg.merge_from_dict({key: eval(value) for key, value in (option.split('=') for option in SMALL)})
    yield {split: DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in LENGTHS}
    if scope is not None:
        init_default_scope(scope.scope_name)


def draw_labels(dataset, index):
    """Return an image (H, W, 3) RGB under its labels' colours, as mmseg draws it without class names."""
    sample = dataset[index]
    image = sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
    labels = sample['data_samples'].gt_sem_seg.data[0].numpy()
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(dataset.metainfo['palette'])] = dataset.metainfo['palette']
    return (image * (1 - 0.8) + palette[labels] * 0.8).astype(np.uint8)


def fraction_equal(expected, path):
    """Return the fraction of equal pixels of an image and a file, where class names cover the others."""
    drawn = np.asarray(Image.open(path).convert('RGB')).astype(int)[:, : expected.shape[1]]
    return (np.abs(drawn - expected).max(-1) <= 1).mean()


def test_scenes_are_read_as_files_are(tmp_path):
    scene = Scene('train', 3, size=64, unseen_frequency=0.3, seed=1)
    for kind, drawn in zip(('images', 'annotations'), draw_scene(scene), strict=True):
        uri = scene_uri(scene, kind)
        (tmp_path / 'scene.png').write_bytes(fileio.get(uri))
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'scene.png')), drawn)
    for wrong in ('world://0/64/0.3/images/train/three.png', 'world://scene.png'):
        with pytest.raises(FileNotFoundError, match='not the URI of a scene'):
            fileio.get(wrong)


def test_validation_draws_images(trained, datasets):
    drawn = sorted((trained / 'vis_image').glob('val_*.png'))
    # mmseg draws all images of a validation, OneDL those whose index is a multiple of the interval: here all.
    assert [path.name[:10] for path in drawn] == ['val_000000', 'val_000001']
    for index, path in enumerate(drawn):
        with Image.open(path) as drawing:
            assert drawing.size == (128, 64)  # ground truth, prediction
        assert fraction_equal(draw_labels(datasets['val'], index), path) > 0.6


def test_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained))
    events.Reload()
    assert {'loss', 'grad_norm', 'hIoU', 'seen_mIoU', 'unseen_mIoU'} <= set(events.Tags()['scalars'])
    assert len(events.Scalars('loss')) == 2 and len(events.Tags()['images']) == 2


def test_wandb_offline(trained):
    (run,) = trained.glob('wandb/offline-run-*')
    (content,) = (path.read_bytes() for path in run.glob('*.wandb'))
    assert b'unseen_mIoU' in content and b'grad_norm' in content
    assert list(run.glob('files/media/images/val_000000*.png'))


def test_analyze_logs(run_script, run, trained):
    keys = ['--keys', 'loss', 'grad_norm', 'seen_mIoU', 'unseen_mIoU', 'hIoU', 'mIoU']
    run_script(f'{ANALYSIS}/analyze_logs.py', trained / 'scalars.json', *keys, '--out', 'curves.png')
    assert (run.folder / 'curves.png').stat().st_size > 10000


def test_show_dir(run, tested, datasets):
    drawn = sorted((run.folder / 'drawn').rglob('test_*.png'))
    assert len(drawn) == LENGTHS['test']
    fractions = [fraction_equal(draw_labels(datasets['test'], index), path) for index, path in enumerate(drawn)]
    assert np.mean(fractions) > 0.6


def test_confusion(run_script, run, tested, datasets):
    (run.folder / 'small.py').write_text(f'_base_ = {CONFIG!r}\ntest_dataloader = dict(dataset=dict(size=64))')
    printed = run_script('confusion.py', 'small.py', tested)
    assert len(re.findall(r'^ *\d+% of .* is predicted as .*$', printed, re.M)) == 10
    confusion = np.load(run.folder / 'confusion.npy')
    classes = datasets['test'].metainfo['classes']
    assert confusion.shape == (len(classes),) * 2
    expected = np.zeros_like(confusion)
    label_maps = [np.asarray(Image.open(path)) for path in sorted(tested.glob('*.png'))]
    for index, predicted in enumerate(label_maps):
        target = datasets['test'][index]['data_samples'].gt_sem_seg.data[0].numpy()
        np.add.at(expected, (target, predicted), 1)
    assert np.array_equal(confusion, expected)
    # mmseg's tool counts most pixels in other rows, as the page says.
    spec = importlib.util.spec_from_file_location('mmseg_confusion', run.folder / ANALYSIS / 'confusion_matrix.py')
    mmseg_tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mmseg_tool)
    mmseg_confusion = mmseg_tool.calculate_confusion_matrix(datasets['test'], label_maps)
    assert np.abs(mmseg_confusion - expected).sum() / 2 > 0.5 * expected.sum()
    assert list(datasets['test'].METAINFO['classes']) != list(classes)


def test_browse_dataset(run_script, run, datasets):
    run_script(f'{ANALYSIS}/browse_dataset.py', 'browse.py', '--not-show', '--output-dir', 'browsed', options=SMALL)
    drawn = sorted((run.folder / 'browsed').glob('*.png'))
    assert [path.stem for path in drawn] == ['000000', '000001', '000002']
    for index, path in enumerate(drawn):
        assert fraction_equal(draw_labels(datasets['train'], index), path) > 0.6


def test_print_config(run_script, run):
    assert "type='mmzeg.ZegFormer'" in run_script('mmseg_files/tools/misc/print_config.py', CONFIG)
    assert Config.fromfile(run.folder / 'example.py').to_dict() == Config.fromfile(run.folder / CONFIG).to_dict()


def test_flops(run_script, run):
    block = r'^## get_flops.*?^```python\n(.*?)^```$\n\n((?:    [^\n]*\n)+)'
    code, output = re.search(block, PAGE, re.M | re.S).groups()
    (run.folder / 'flops.py').write_text(code)
    printed = run_script('flops.py').splitlines()
    for line in output.splitlines():
        assert line.strip() in printed


def test_mmseg_test(run, tested):
    result = run(
        'python', 'mmseg_files/tools/test.py', CONFIG, 'work/iter_2.pth', '--work-dir', 'tested_by_mmseg', options=SMALL
    )
    assert result.returncode == 0, result.stderr
    (theirs,) = (run.folder / 'tested_by_mmseg').glob('*/*.json')
    (ours,) = (run.folder / 'tested').glob('*/*.json')
    assert fileio.load(theirs)['hIoU'] == fileio.load(ours)['hIoU']


def test_publish_model(run, trained):
    # A process that has not imported mmzeg, which sets how mmengine loads files.
    result = run(sys.executable, 'mmseg_files/tools/misc/publish_model.py', 'work/iter_2.pth', 'published.pth')
    can_read = digit_version(torch.__version__) < digit_version('2.6')
    assert (result.returncode == 0) == can_read, result.stderr
    if can_read:
        (path,) = run.folder.glob('published-*.pth')
        complete, published = (torch.load(file, map_location='cpu') for file in (run.folder / 'work/iter_2.pth', path))
        assert 'optimizer' in complete and 'optimizer' not in published
        assert complete['state_dict'].keys() == published['state_dict'].keys()
