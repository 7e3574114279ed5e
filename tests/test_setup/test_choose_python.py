"""The Makefile's choice of stack and Python, among programs that answer as Pythons of some version would."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def choose(folder, programs, *arguments):
    """Run the script where PATH holds these programs only: minor versions, or None for a shim that fails."""
    folder.mkdir()
    (folder / 'bash').symlink_to(shutil.which('bash'))
    for name, minor in programs.items():
        answer = 'echo "pyenv: command not found" >&2\nexit 127' if minor is None else f'echo {minor}'
        (folder / name).write_text(f'#!{folder}/bash\n{answer}\n')
        (folder / name).chmod(0o755)
    command = [folder / 'bash', ROOT / 'tools/choose_python.sh', *arguments]
    run = subprocess.run(command, env=dict(PATH=str(folder)), capture_output=True, text=True, check=True)
    assert run.stderr == ''
    return run.stdout.strip()


@pytest.mark.parametrize(
    'programs, arguments, choice',
    [
        (dict(python3=10), (), 'official python3'),
        (dict(python3=11), (), 'official python3'),
        (dict(python3=12), (), 'onedl python3'),
        ({'python3': 13, 'python3.12': 12, 'python3.11': 11}, (), 'official python3.11'),
        ({'python3': None, 'python3.11': None, 'python3.10': None, 'python3.12': 12}, (), 'onedl python3.12'),
        ({'python3': 12, 'python3.11': 11}, ('official',), 'official python3.11'),
        ({'python3': 11, 'python3.12': 12}, ('onedl',), 'onedl python3'),
        ({'python3': 11, 'python3.12': 12}, ('', 'python3.12'), 'onedl python3.12'),
        ({'python3': 11, 'python3.12': 12}, ('official', 'python3.12'), ''),
        (dict(python3=None), (), ''),
        (dict(python3=9), (), ''),
        ({}, (), ''),
    ],
)
def test_choice(tmp_path, programs, arguments, choice):
    assert choose(tmp_path / 'bin', programs, *arguments) == choice


def test_make_says_in_one_line_what_to_install(tmp_path):
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'bash').symlink_to(shutil.which('bash'))
    (folder / 'sh').symlink_to(shutil.which('sh'))
    run = subprocess.run(
        [shutil.which('make'), '-n', 'test'], env=dict(PATH=str(folder)), cwd=ROOT, capture_output=True, text=True
    )
    (line,) = run.stderr.splitlines()
    assert run.returncode and 'install Python 3.11 (official stack) or 3.12 (OneDL)' in line
