"""Wheel and sdist: complete, small, and enough to train and to segment without a checkout."""

import filecmp
import os
import re
import shlex
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from PIL import Image

import mmzeg
from mmzeg.apis import list_models
from mmzeg.datasets.world import Scene, draw_scene

ROOT = Path(__file__).parents[2]
MAX_BYTES = 20 * 2**20
# Without a cache: pip would keep every wheel that it builds of the sdist.
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--no-cache-dir', '-q']
# Python runs it at start, before mmzeg.
REFUSE_CHECKOUT = """
import sys


def refuse(event, arguments, folders={folders}):
    path = str(arguments[0]) if event == 'open' or event.startswith('os.') and arguments else ''
    if path.startswith(folders):
        raise PermissionError(f'{{path}}: a file of the checkout')


sys.addaudithook(refuse)
"""


def tracked(*folders):
    """Return the files that git tracks, or would track, in these folders (by default in all)."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split('\0') if (ROOT / name).is_file()}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what git tracks, as a build leaves files in its source."""
    folder = tmp_path_factory.mktemp('source')
    for name in tracked():
        if not name.startswith(('tests/', 'docs/')):
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


@pytest.fixture(scope='module')
def site(sdist, tmp_path_factory):
    """A folder that holds what the sdist's wheel installs."""
    folder = tmp_path_factory.mktemp('site')
    install(build_wheel(sdist, tmp_path_factory.mktemp('wheel_of_sdist')), folder)
    return folder


def build_wheel(source, folder):
    subprocess.run([*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, source], check=True)
    return next(folder.glob('*.whl'))


def install(wheel, folder):
    subprocess.run([*PIP, 'install', '--no-deps', '--no-compile', '--target', folder, wheel], check=True)


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_the_wheel_is_complete_and_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packaged = {name for name in names if name.startswith('mmzeg/')}
    lists = ('mmzeg/datasets/class_lists', 'mmzeg/datasets/splits')
    mim = {f'mmzeg/.mim/{name}' for name in tracked('configs', 'tools', 'model-index.yml', *lists)}
    assert packaged == tracked('mmzeg') | mim | {f'mmzeg/.mim/names/{name}' for name in list_models()}
    assert wheel.stat().st_size < MAX_BYTES


def test_metadata(wheel):
    """It requires no package of the OpenMMLab stack; the description has no link that a package index cannot follow."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith('/METADATA'))
        metadata = message_from_string(archive.read(name).decode())
    assert metadata['Version'] == mmzeg.__version__ and wheel.name.startswith(f'mmzeg-{mmzeg.__version__}-')
    required = [line for line in metadata.get_all('Requires-Dist') if 'extra' not in line]
    stack = ('torch', 'numpy', 'mmcv', 'mmengine', 'mmseg', 'mmdet', 'open', 'scipy')
    assert required and not [line for line in required if line.startswith(stack)]
    # The classifiers are the Python versions that are allowed.
    pythons = [line.split()[-1] for line in metadata.get_all('Classifier') if ':: 3.' in line]
    allowed = SpecifierSet(metadata['Requires-Python'])
    assert pythons == [f'3.{minor}' for minor in range(30) if f'3.{minor}' in allowed] == ['3.10', '3.11', '3.12']
    # Only links and images of the repository are removed.
    description, readme = metadata.get_payload(), (ROOT / 'README.md').read_text()
    assert re.findall(r'\]\((?!https?:)[^)]*\)', description) == []
    for pattern in (r'^```.*?^```$', r'\]\((https?:[^)]*)\)', r'^#+ [^\n]*$'):
        kept = re.findall(pattern, description, re.M | re.S)
        assert kept == re.findall(pattern, readme, re.M | re.S) and len(kept) > 5


def test_the_sdist_makes_the_same_wheel(wheel, sdist, site, tmp_path):
    assert sdist.stat().st_size < MAX_BYTES
    install(wheel, tmp_path)
    files = files_of(tmp_path)
    assert files == files_of(site)
    # RECORD and direct_url.json say which file was installed.
    _, different, failed = filecmp.cmpfiles(tmp_path, site, files, shallow=False)
    assert {Path(name).name for name in different} <= {'RECORD', 'direct_url.json'} and failed == []


def test_a_wheel_trains_tests_and_segments_without_the_checkout(site, tmp_path):
    """By names of configs alone, in a folder of its own, with the tools that the wheel holds."""
    Image.fromarray(draw_scene(Scene('test', 0, 128))[0]).save(tmp_path / 'scene.png')
    hook = tmp_path / 'hook'
    hook.mkdir()
    folders = tuple(f'{ROOT / name}/' for name in ('mmzeg', 'configs', 'tools', 'docs'))
    (hook / 'sitecustomize.py').write_text(REFUSE_CHECKOUT.format(folders=folders))
    environment = os.environ | dict(
        PYTHONPATH=f'{hook}:{site}', OMP_NUM_THREADS='1', MMZEG_CACHE=str(tmp_path / 'cache')
    )

    def run(*command, code=0):
        result = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert result.returncode == code, result.stderr
        return result.stdout + result.stderr

    assert 'a file of the checkout' in run('-c', f'open({str(ROOT / "configs/metafile.yml")!r})', code=1)
    # Every config is complete, with the class lists that it reads.
    program = (
        'import mmzeg; from mmzeg.apis import list_models; from mmzeg.utils.config_files import read_config\n'
        'print(mmzeg.__file__, len([read_config(name) for name in list_models()]))'
    )
    assert f'{site / "mmzeg/__init__.py"} {len(list_models())}' in run('-c', program).splitlines()
    # OpenMIM gives the only file of this name.
    (name,) = site.rglob('zegformer_r18_world')
    tools = site / 'mmzeg/.mim/tools'
    short = shlex.split('--cfg-options train_cfg.max_iters=2 train_cfg.val_interval=9 train_dataloader.batch_size=2')
    run(tools / 'train.py', name, *short)
    checkpoint = 'work_dirs/zegformer_r18_world/iter_2.pth'
    short = ['--cfg-options', 'test_dataloader.dataset.length=2']
    printed = run(tools / 'test.py', 'zegformer_r18_world', checkpoint, *short)
    assert re.search(r'seen_mIoU: [\d.]+  unseen_mIoU: ', printed)
    run(tools / 'demo.py', 'zegformer_r18_world', checkpoint, 'scene.png', '--out', 'results', '--save-masks')
    with Image.open(tmp_path / 'results/masks/scene.png') as label_map:
        assert label_map.size == (128, 128)
    # One file, with the results of the test, in place of config and checkpoint.
    run(tools / 'model_converters/publish.py', checkpoint, 'published/')
    assert '| seen_mIoU | unseen_mIoU |' in (tmp_path / 'published/README.md').read_text()
    (published,) = (tmp_path / 'published').glob('zegformer_r18_world-*.safetensors')
    run(tools / 'demo.py', published, 'scene.png', '--out', 'results_of_published', '--save-masks')
    masks = [(tmp_path / folder / 'masks/scene.png').read_bytes() for folder in ('results', 'results_of_published')]
    assert masks[0] == masks[1]


def test_models_are_listed_and_found_by_name():
    names = list_models()
    assert names == sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
    assert list_models('per-pixel_*') == [name for name in names if name.startswith('per-pixel_')] != []


def test_readme_and_ci_have_the_same_test_command():
    assert '\nmake test\n' in (ROOT / 'README.md').read_text()
    # After the shell's options and the change to the root.
    commands = [line for line in (ROOT / '.ci/run').read_text().splitlines() if not line.startswith('#')]
    assert commands[2] == 'make test'
