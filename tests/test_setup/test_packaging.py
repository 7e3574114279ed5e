"""Wheel and sdist: complete, small, and enough to train and to segment without a checkout."""

import filecmp
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from mmzeg.apis import list_models
from mmzeg.datasets.world import Scene, draw_scene

ROOT = Path(__file__).parents[2]
MAX_BYTES = 20 * 2**20
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what git tracks, as a build leaves files in its source."""
    folder = tmp_path_factory.mktemp('source')
    names = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split('\0')):
        if (ROOT / name).is_file() and not name.startswith(('tests/', 'docs/')):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sdist')
    subprocess.run([sys.executable, 'setup.py', '-q', 'sdist', '-d', folder], cwd=source, check=True)
    return next(folder.glob('*.tar.gz'))


def build_wheel(source, folder):
    subprocess.run([*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, source], check=True)
    return next(folder.glob('*.whl'))


def tracked(*folders):
    """Names of the files that git tracks in some folders."""
    names = subprocess.run(['git', 'ls-files', *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_is_complete_small_and_requires_no_openmmlab_stack(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith('METADATA'))).decode()
    packaged = {name for name in names if name.startswith('mmzeg/')}
    lists = ('mmzeg/datasets/class_lists', 'mmzeg/datasets/splits')
    mim = {f'mmzeg/.mim/{name}' for name in tracked('configs', 'tools', 'model-index.yml', *lists)}
    assert packaged == tracked('mmzeg') | mim
    assert wheel.stat().st_size < MAX_BYTES
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra' not in line]
    stack = ('torch', 'numpy', 'mmcv', 'mmengine', 'mmseg', 'mmdet', 'open', 'scipy')
    assert required and not [line for line in required if line.split()[1].startswith(stack)]


def test_the_sdist_makes_the_same_wheel(wheel, sdist, tmp_path):
    assert sdist.stat().st_size < MAX_BYTES
    for name, distribution in (('of_wheel', wheel), ('of_sdist', build_wheel(sdist, tmp_path))):
        subprocess.run(
            [*PIP, 'install', '--no-deps', '--no-compile', '--target', tmp_path / name, distribution], check=True
        )
    one, other = tmp_path / 'of_wheel', tmp_path / 'of_sdist'
    files = {str(path.relative_to(one)) for path in (one / 'mmzeg').rglob('*') if path.is_file()}
    assert files == {str(path.relative_to(other)) for path in (other / 'mmzeg').rglob('*') if path.is_file()}
    same, _, _ = filecmp.cmpfiles(one, other, files, shallow=False)
    assert set(same) == files


def test_a_wheel_trains_and_segments_without_the_checkout(wheel, tmp_path):
    """By names of configs alone, in a folder of its own, with the tools that the wheel holds."""
    site, work = tmp_path / 'site', tmp_path / 'work'
    subprocess.run([*PIP, 'install', '--no-deps', '--target', site, wheel], check=True)
    work.mkdir()
    Image.fromarray(draw_scene(Scene('test', 0, 128))[0]).save(work / 'scene.png')
    environment = os.environ | dict(PYTHONPATH=str(site), OMP_NUM_THREADS='1', MMZEG_CACHE=str(tmp_path / 'cache'))

    def run(*command):
        result = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=work, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    program = 'import mmzeg; from mmzeg.apis import list_models; print(mmzeg.__file__, len(list_models()))'
    assert run('-c', program).split() == [str(site / 'mmzeg/__init__.py'), str(len(list_models()))]
    # Every config is complete, with the class lists that it reads.
    run(
        '-c',
        'from mmzeg.apis import list_models\nfrom mmzeg.utils.config_files import read_config\n'
        'for name in list_models():\n    read_config(name)',
    )
    tools = site / 'mmzeg/.mim/tools'
    options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=2']
    run(tools / 'train.py', 'zegformer_r18_world', '--work-dir', 'trained', '--cfg-options', *options)
    run(tools / 'demo.py', 'zegformer_r18_world', 'trained/iter_2.pth', 'scene.png', '--out', 'results', '--save-masks')
    assert Image.open(work / 'results/masks/scene.png').size == (128, 128)


def test_models_are_listed_and_found_by_name():
    names = list_models()
    assert names == sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
    assert list_models('per-pixel_*') == [name for name in names if name.startswith('per-pixel_')] != []


def test_readme_and_ci_have_the_same_test_command():
    assert '\nmake test\n' in (ROOT / 'README.md').read_text()
    assert (ROOT / '.ci' / 'run').read_text().splitlines()[-1] == 'make test'
