"""mmseg's own tools, MMEngine's back ends and docs/en/mmseg_tools.md's help on the procedural world's config."""

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

from mmzeg.datasets.world import Scene, draw_scene, scene_uri

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/en/mmseg_tools.md').read_text()
CONFIG, ANALYSIS = 'configs/zegformer_r18_world.py', 'mmseg_files/tools/analysis_tools'
LENGTHS = dict(train=3, val=2, test=4)
SMALL = [f'{split}_dataloader.dataset.{key}' for split, n in LENGTHS.items() for key in ('size=64', f'length={n}')]
SMALL += [f'{split}_dataloader.{key}' for split in LENGTHS for key in ('num_workers=0', 'persistent_workers=False')]
SHORT = ['train_cfg.max_iters=2', 'train_dataloader.batch_size=2', 'default_hooks.logger.interval=1']
# What is drawn stands where it was drawn.
SMALL += ['train_dataloader.dataset.pipeline.1.prob=0.0']


def files_of_the_page():
    return dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Runs a command in a folder with the page's files and its link to mmseg's."""
    folder = tmp_path_factory.mktemp('mmseg_tools')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    for name, text in files_of_the_page().items():
        (folder / name).write_text(text)
    places = {f'WANDB_{kind}_DIR': str(folder) for kind in ('CONFIG', 'CACHE', 'DATA')}
    places |= dict(PYTHONPATH=f'.:{ROOT}', PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    environment = os.environ | places | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', WANDB_SILENT='true')

    def run(*command, options=None):
        command = [*map(str, command), *(['--cfg-options', *options] if options else [])]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    link = re.search(r'^ln -s .*$', PAGE, re.M).group()
    assert run('bash', '-c', link).returncode == 0
    run.folder = folder
    return run


@pytest.fixture
def here(run, monkeypatch, capsys):
    """Runs a script in this process, which has imported everything, and returns what it printed."""

    def here(script, *arguments, options=None):
        monkeypatch.chdir(run.folder)
        monkeypatch.syspath_prepend(str(run.folder))
        monkeypatch.setenv('MPLBACKEND', 'agg')
        arguments = [*map(str, arguments), *(['--cfg-options', *options] if options else [])]
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        runpy.run_path(script, run_name='__main__')
        return capsys.readouterr().out

    return here


@pytest.fixture(scope='module')
def trained(run):
    """mmseg's own train.py, with pictures and all three back ends: the folder of what they kept."""
    work = run.folder / 'work'
    command = ['python', 'mmseg_files/tools/train.py', 'tracked.py', '--work-dir', work]
    result = run(*command, options=[*SMALL, *SHORT])
    assert result.returncode == 0, result.stderr
    (kept,) = work.glob('*/vis_data')
    return kept


@pytest.fixture(scope='module')
def tested(run, trained):
    """Label maps of the trained model."""
    command = ['python', 'tools/test.py', CONFIG, 'work/iter_2.pth', '--work-dir', 'tested', '--show-dir', 'shown']
    # No training data are there, and none are asked for.
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


def painted(dataset, index):
    """A picture (H, W, 3) RGB under its labels' colours, as mmseg paints it but for the names."""
    sample = dataset[index]
    picture = sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
    labels = sample['data_samples'].gt_sem_seg.data[0].numpy()
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(dataset.metainfo['palette'])] = dataset.metainfo['palette']
    return (picture * (1 - 0.8) + palette[labels] * 0.8).astype(np.uint8)


def likeness(picture, path):
    """The share of pixels that are alike; names stand on the others."""
    found = np.asarray(Image.open(path).convert('RGB')).astype(int)[:, : picture.shape[1]]
    return (np.abs(found - picture).max(-1) <= 1).mean()


def test_scenes_are_read_as_files_are(tmp_path):
    scene = Scene('train', 3, size=64, unseen_share=0.3, seed=1)
    for kind, drawn in zip(('images', 'annotations'), draw_scene(scene), strict=True):
        name = scene_uri(scene, kind)
        (tmp_path / 'scene.png').write_bytes(fileio.get(name))
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'scene.png')), drawn)
    for wrong in ('world://0/64/0.3/images/train/three.png', 'world://scene.png'):
        with pytest.raises(FileNotFoundError, match='not the URI of a scene'):
            fileio.get(wrong)


def test_pictures_of_validation(trained, datasets):
    drawn = sorted((trained / 'vis_image').glob('val_*.png'))
    # mmseg draws all of a validation's, OneDL those whose number is a multiple of the interval: here all.
    assert [path.name[:10] for path in drawn] == ['val_000000', 'val_000001']
    for index, path in enumerate(drawn):
        assert Image.open(path).size == (128, 64)  # truth, prediction
        assert likeness(painted(datasets['val'], index), path) > 0.6


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


def test_analyze_logs(here, run, trained):
    keys = ['--keys', 'loss', 'grad_norm', 'seen_mIoU', 'unseen_mIoU', 'hIoU', 'mIoU']
    here(f'{ANALYSIS}/analyze_logs.py', trained / 'scalars.json', *keys, '--out', 'curves.png')
    assert (run.folder / 'curves.png').stat().st_size > 10000


def test_show_dir(run, tested, datasets):
    drawn = sorted((run.folder / 'shown').rglob('test_*.png'))
    assert len(drawn) == LENGTHS['test']
    assert np.mean([likeness(painted(datasets['test'], index), path) for index, path in enumerate(drawn)]) > 0.6


def test_confusion(here, run, tested, datasets):
    (run.folder / 'small.py').write_text(f'_base_ = {CONFIG!r}\ntest_dataloader = dict(dataset=dict(size=64))')
    printed = here('confusion.py', 'small.py', tested)
    assert len(re.findall(r'^ *\d+% of .* is taken for .*$', printed, re.M)) == 10
    found = np.load(run.folder / 'confusion.npy')
    classes, pixels = datasets['test'].metainfo['classes'], np.zeros_like(found)
    assert found.shape == (len(classes),) * 2
    maps = [np.asarray(Image.open(path)) for path in sorted(tested.glob('*.png'))]
    for index, taken in enumerate(maps):
        truth = datasets['test'][index]['data_samples'].gt_sem_seg.data[0].numpy()
        np.add.at(pixels, (truth, taken), 1)
    assert np.array_equal(found, pixels)
    # What the page says of mmseg's.
    place = importlib.util.spec_from_file_location('mmseg_confusion', run.folder / ANALYSIS / 'confusion_matrix.py')
    mmseg_tool = importlib.util.module_from_spec(place)
    place.loader.exec_module(mmseg_tool)
    wrong = mmseg_tool.calculate_confusion_matrix(datasets['test'], maps)
    assert np.abs(wrong - pixels).sum() / 2 > 0.5 * pixels.sum()
    assert list(datasets['test'].METAINFO['classes']) != list(classes)


def test_browse_dataset(here, run, datasets):
    here(f'{ANALYSIS}/browse_dataset.py', 'browse.py', '--not-show', '--output-dir', 'browsed', options=SMALL)
    drawn = sorted((run.folder / 'browsed').glob('*.png'))
    assert [path.stem for path in drawn] == ['000000', '000001', '000002']
    for index, path in enumerate(drawn):
        assert likeness(painted(datasets['train'], index), path) > 0.6


def test_print_config(here, run):
    assert "type='mmzeg.ZegFormer'" in here('mmseg_files/tools/misc/print_config.py', CONFIG)
    assert Config.fromfile(run.folder / 'example.py').to_dict() == Config.fromfile(run.folder / CONFIG).to_dict()


def test_flops(here, run):
    block = r'^## get_flops.*?^```python\n(.*?)^```$\n\n((?:    [^\n]*\n)+)'
    code, figures = re.search(block, PAGE, re.M | re.S).groups()
    (run.folder / 'flops.py').write_text(code)
    printed = here('flops.py').splitlines()
    for line in figures.splitlines():
        assert line.strip() in printed


def test_mmseg_test(run, tested):
    result = run('python', 'mmseg_files/tools/test.py', CONFIG, 'work/iter_2.pth', '--work-dir', 'again', options=SMALL)
    assert result.returncode == 0, result.stderr
    (figures,) = (run.folder / 'again').glob('*/*.json')
    (ours,) = (run.folder / 'tested').glob('*/*.json')
    assert fileio.load(figures)['hIoU'] == fileio.load(ours)['hIoU']


def test_publish_model(run, trained):
    result = run('python', 'mmseg_files/tools/misc/publish_model.py', 'work/iter_2.pth', 'published.pth')
    readable = digit_version(torch.__version__) < digit_version('2.6')
    assert (result.returncode == 0) == readable, result.stderr
    if readable:
        (path,) = run.folder.glob('published-*.pth')
        whole, published = (torch.load(file, map_location='cpu') for file in (run.folder / 'work/iter_2.pth', path))
        assert 'optimizer' in whole and 'optimizer' not in published
        assert whole['state_dict'].keys() == published['state_dict'].keys()
