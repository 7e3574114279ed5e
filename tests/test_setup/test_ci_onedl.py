"""CI's part in OneDL, with programs that print what they are called with instead of installing and testing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = next(
    line.split('==')[1]
    for line in (ROOT / 'tools/constraints/onedl.txt').read_text().splitlines()
    if line.startswith('onedl-mmcv==')
)


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
    """A clone in which the official stack was tested, and a folder of programs: its PATH."""
    for name in ('.ci/onedl', 'tools/constraints/onedl.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / '.venv/official').mkdir(parents=True)
    (tmp_path / '.venv/official/.ready').touch()
    for name in ('bash', 'sed', 'timeout', 'dirname'):
        (tmp_path / 'bin').mkdir(exist_ok=True)
        (tmp_path / 'bin' / name).symlink_to(shutil.which(name))
    write_program(tmp_path / 'bin/make', 'echo make "$@"')
    write_program(tmp_path / '.venv/onedl/bin/python', 'echo tests "$@"')
    return tmp_path


def python(tag, wheel):
    """A Python of this tag, with a pip whose cache has this wheel."""
    return f'case "$1 $5" in -c*) echo {tag};; "-m onedl_mmcv-{VERSION}") echo " - {wheel} (32 MB)";; esac'


def run(clone, code=0):
    result = subprocess.run(
        ['bash', clone / '.ci/onedl'], env=dict(PATH=str(clone / 'bin')), capture_output=True, text=True
    )
    assert result.returncode == code, result.stderr
    return result.stdout.splitlines()


def wheel(tag, version=VERSION):
    return f'onedl_mmcv-{version}-{tag}-{tag}-linux_x86_64.whl'


def test_no_python(clone):
    (line,) = run(clone)
    assert line.startswith('OneDL is left out: no Python 3.10 to 3.12') and f'onedl-mmcv {VERSION}' in line


def test_a_shim_that_fails_and_a_wheel_of_another_python(clone):
    write_program(clone / 'bin/python3.12', 'exit 127')
    write_program(clone / 'bin/python3.11', python('cp311', wheel('cp312')))
    (line,) = run(clone)
    assert line.startswith('OneDL is left out: no Python')


@pytest.mark.parametrize('name', ['python3.12', 'kept_by_pyenv'])
def test_the_python_that_has_mmcv(clone, name):
    write_program(clone / 'bin/python3.11', python('cp311', wheel('cp312')))
    write_program(clone / 'bin' / name, python('cp312', wheel('cp312')))
    if name == 'kept_by_pyenv':
        write_program(clone / 'bin/pyenv', f'[ "$3" = python3.12 ] && echo {clone}/bin/{name}')
        name = clone / 'bin' / name
    made, tested = run(clone)
    assert made == f'make env STACK=onedl PYTHON={name}'
    files = tested.split('--no-loadscope-reorder ')[1].split()
    assert len(files) > 10 and [file for file in files if not (ROOT / file).exists()] == []


def test_failures(clone):
    write_program(clone / 'bin/python3.12', python('cp312', wheel('cp312')))
    write_program(clone / '.venv/onedl/bin/python', 'exit 1')
    run(clone, code=1)
    write_program(clone / 'bin/make', 'exit 2')
    run(clone, code=2)
    # What timeout returns.
    write_program(clone / 'bin/make', 'exit 124')
    (line,) = run(clone)
    assert line.startswith('OneDL is left out: its environment was not ready')


def test_make_chose_onedl(clone):
    (clone / '.venv/official/.ready').unlink()
    (line,) = run(clone)
    assert line.startswith('OneDL is left out: all tests have just run in it')
