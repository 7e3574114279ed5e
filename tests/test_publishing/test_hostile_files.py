"""Hostile weight files: refused in one line, nothing of them is run, and memory stays bounded."""

import re
import subprocess
import sys
from pathlib import Path

from hostile_files import write_hostile_files
from mmseg.registry import MODELS

# Loads every file given, and prints one line of each, then by how many MiB memory grew after the first.
PROGRAM = """
import resource, sys
from mmzeg.apis import ZeroShotInferencer

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = None
for name in sys.argv[1:]:
    arguments = [name] if name.endswith('.safetensors') else ['zegformer_r18_world', name]
    try:
        ZeroShotInferencer(*arguments, device='cpu')
        print('loaded')
    except ValueError as error:
        print(error)
    before = before or peak()
print(peak() - before)
"""


def test_every_file_is_refused(tmp_path):
    files = write_hostile_files(tmp_path)
    paths = [path.name for path, _ in files.values()]
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PROGRAM, *paths], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-3000:]
    *messages, growth = run.stdout.splitlines()
    # MMEngine's line about a checkpoint that it begins to load, and OneDL's at import.
    of_others = ('Loads checkpoint by', 'Could not import OneDL')
    messages = [line for line in messages if not line.startswith(of_others)]
    assert len(messages) == len(files) > 60
    wrong = {
        name: message
        for (name, (path, expected)), message in zip(files.items(), messages, strict=True)
        if not (message.startswith(f'{path.name}: ') and re.search(expected, message))
    }
    assert wrong == {}
    assert not (tmp_path / 'harmed').exists()
    assert int(growth) < 256


def test_mmengine_would_run_them(tmp_path, monkeypatch):
    """The attack of the hostile configs is real: without the check, MMEngine's registry runs any function."""
    monkeypatch.chdir(tmp_path)
    MODELS.build(dict(type='os.system', command='touch harmed'))
    assert Path('harmed').exists()
