"""What can be checked of the Dockerfile without Docker: its files, its arguments, its images and its user."""

import ast
import json
import re
import sys
from pathlib import Path

from tool_loading import load_tool

from mmzeg.apis import list_models
from mmzeg.utils.config_files import read_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'Dockerfile').read_text()
SETUP = (ROOT / 'setup.py').read_text()


def test_images_have_a_version_and_the_user_is_not_root():
    images = re.findall(r'^FROM (\S+)', TEXT, re.M)
    stages = re.findall(r'^FROM \S+ AS (\w+)$', TEXT, re.M)
    assert len(images) == 3 and all(image in stages or re.search(r':\d+\.\d+', image) for image in images)
    last_stage = TEXT.rpartition('\nFROM ')[2]
    assert re.findall(r'^USER (\S+)$', last_stage, re.M) == ['1000'] and 'useradd --uid 1000 ' in last_stage


def test_the_environment_is_that_of_the_project():
    ((extras, script, stack, folder),) = re.findall(r'EXTRAS=(\w+) bash (\S+) (\w+) (\S+)', TEXT)
    assert (ROOT / script).is_file() and (ROOT / f'tools/constraints/{stack}.txt').is_file()
    assert re.search(rf"^        '{extras}': ", SETUP, re.M)
    assert f'--from=build {folder} {folder}\n' in TEXT and f'PATH={folder}/bin:' in TEXT


def test_the_build_gets_what_the_package_needs():
    mim_content = ast.literal_eval(re.search(r'^MIM_CONTENT = (\(.*?^\))', SETUP, re.M | re.S)[1])
    needed = {name.split('/')[0] for name in mim_content} | {'mmzeg', 'setup.py', 'pyproject.toml', 'README.md'}
    lines = [line for line in (ROOT / '.dockerignore').read_text().splitlines() if not line.startswith('#')]
    allowed = {line[1:] for line in lines if line.startswith('!')}
    # All else is left out, such as .git and the environments.
    assert lines[0] == '*' and needed <= allowed
    assert [name for name in allowed if not (ROOT / name).exists()] == []


def test_the_command_serves_the_model_of_the_quick_start(monkeypatch):
    python, tool, config, weights, *flags = json.loads(re.search(r'^CMD (.*)$', TEXT, re.M)[1])
    assert python == 'python' and config in list_models()
    monkeypatch.setattr(sys, 'argv', [tool, config, weights, *flags])
    args = load_tool(tool).parse_args()
    assert args.host == '0.0.0.0' and f'EXPOSE {args.port}\n' in TEXT
    monkeypatch.setattr(sys, 'argv', ['quickstart.py'])
    quickstart = load_tool('tools/world/quickstart.py').parse_args()
    assert Path(quickstart.config).stem == config
    assert weights == str(quickstart.work_dir / f'iter_{read_config(config).train_cfg.max_iters}.pth')
    assert f' {quickstart.work_dir.parent}\n' in TEXT, 'the user cannot write there'
