import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_is_complete_and_requires_no_openmmlab_stack(tmp_path):
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q', '-w', tmp_path, ROOT]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith('METADATA'))).decode()
    packaged = {name for name in names if name.startswith('mmzeg/')}
    ours = {str(path.relative_to(ROOT)) for kind in ('py', 'json') for path in (ROOT / 'mmzeg').rglob(f'*.{kind}')}
    assert packaged == ours
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra' not in line]
    stack = ('torch', 'numpy', 'mmcv', 'mmengine', 'mmseg', 'mmdet', 'open', 'scipy')
    assert required and not [line for line in required if line.split()[1].startswith(stack)]


def test_readme_and_ci_have_the_same_test_command():
    assert '\nmake test\n' in (ROOT / 'README.md').read_text()
    assert (ROOT / '.ci' / 'run').read_text().splitlines()[-1] == 'make test'
