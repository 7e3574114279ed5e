"""Every code block of docs/en is run, trainings shortened to two iterations, or is marked as needing what is not here.

A block's title says which: a file name (it is written under that name), "needs ..." (its commands are checked against
the tools' own arguments and the configs' fields, not run), or nothing (it is run).
"""

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS, VISBACKENDS
from mmseg.registry import DATASETS, MODELS
from mmseg.utils import register_all_modules

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / 'docs/en').glob('*.md'))
READMES = [ROOT / 'README.md', ROOT / 'README_zh-CN.md']
LINK = r'\]\(((?!https?:)[^)#]+)'
FENCE = re.compile(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', re.M | re.S)
SHORT = {
    'tools/train.py': 'train_cfg.max_iters=2 train_dataloader.batch_size=2 val_dataloader.dataset.length=2',
    'tools/test.py': 'test_dataloader.dataset.length=2',
    'sweep.py': 'val_dataloader.dataset.length=2',
    'diagnose.py': 'test_dataloader.dataset.length=2',
}
REGISTRIES = (MODELS, DATASETS, HOOKS, LOOPS, OPTIM_WRAPPERS, VISBACKENDS)


@dataclass
class Block:
    language: str
    title: str
    text: str


def blocks(page):
    return [Block(*(part or '' for part in match)) for match in FENCE.findall(page.read_text())]


def commands(text):
    """The command lines of a block of shell."""
    return [line for line in text.replace('\\\n', ' ').splitlines() if line.strip() and not line.startswith('#')]


def shorten(command, folder):
    """The same command with two iterations, two pictures and no worker processes."""
    tool = next((tool for tool in SHORT if f'{tool} ' in command), None)
    command = re.sub(r'iter_\d+\.pth', 'iter_2.pth', command)
    if tool is None:
        return command
    path = next(folder / word for word in command.split() if word.endswith('.py') and not word.startswith('tools/'))
    cfg = Config.fromfile(path, import_custom_modules=False)
    options = [
        option
        for option in SHORT[tool].split()
        if 'dataset.length' not in option or 'length' in cfg[option.split('.')[0]].dataset
    ]
    for name in ('train', 'val', 'test'):
        options += [f'{name}_dataloader.num_workers=0', f'{name}_dataloader.persistent_workers=False']
    if '--cfg-options' in command:
        return f'{command} {" ".join(options)}'
    return f'{command} --cfg-options {" ".join(options)}'


@pytest.fixture
def folder(tmp_path):
    """A working directory that looks like the repository's root."""
    for name in ('configs', 'tools', 'tests', 'mmzeg'):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(arguments, folder):
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    environment = os.environ | dict(PATH=path, OMP_NUM_THREADS='1')
    result = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f'{arguments}\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}'


@pytest.mark.parametrize('page', PAGES + READMES, ids=lambda page: page.stem)
def test_blocks(page, folder):
    for block in blocks(page):
        if block.language == 'bibtex':
            continue
        assert block.language in ('bash', 'python'), f'{block.language}: not a language that this test runs'
        if block.title.startswith('needs '):
            for command in commands(block.text):
                check(command)
        elif block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == 'python':
            run([sys.executable, '-c', re.sub(r'iter_\d+\.pth', 'iter_2.pth', block.text)], folder)
        else:
            for command in commands(block.text):
                # Run by tests/test_tools/test_check_parity.py.
                if 'check_parity.py' in command:
                    check(command)
                else:
                    run(['bash', '-c', shorten(command, folder)], folder)


@pytest.mark.parametrize('readme', READMES, ids=lambda page: page.stem)
def test_readme(readme, folder):
    """Its line of Python with the world's model, its config as a model, its links and tools."""
    line, config = (block.text for block in blocks(readme) if block.language == 'python')
    prepare = f"""
import torch
from PIL import Image
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from mmzeg.datasets.world import Scene, draw_scene
register_all_modules()
model = MODELS.build(Config.fromfile('{folder}/readme_config.py').model)
assert model.vocabulary.unseen == ('kite',) and len(model.decode_head.classifier.train_vocabulary) == 3
torch.save(dict(state_dict=model.state_dict()), 'model.pth')
Image.fromarray(draw_scene(Scene('test', 0, 64))[0]).save('street.jpg')
"""
    (folder / 'readme_config.py').write_text(config)
    shown = "assert found['predictions'][0]['label_map'].shape == (64, 64), found"
    run([sys.executable, '-c', prepare + line.replace('zegformer_r101_coco', 'zegformer_r18_world') + shown], folder)
    text = FENCE.sub('', readme.read_text())
    links = re.findall(LINK, text)
    assert len(links) > 10 and [link for link in links if not (ROOT / link).is_file()] == []
    tools = re.findall(r'`(tools/\S+?\.py)`', text)
    assert len(tools) >= 7 and [tool for tool in tools if not (ROOT / tool).is_file()] == []


def test_readmes_say_the_same():
    """In both languages there are the same classes, programs, commands, links and figures."""
    english, chinese = (
        [set(re.findall(pattern, FENCE.sub('', readme.read_text()))) for pattern in ('`([^`\n]+)`', LINK, r'\d+\.\d+')]
        for readme in READMES
    )
    readmes = {readme.name for readme in READMES}
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours - readmes == theirs - readmes and len(ours) > 10


def parity(page):
    """What a page says that the parity tool prints, by golden case."""
    cases = re.findall(r'check_parity\.py tests/data/golden/(\w+)', page.read_text())
    return dict(zip(cases, re.findall(r'`(\d+ values, 0 off)`', page.read_text()), strict=True))


def test_parity_figures():
    """As on the page that tests/test_tools/test_check_parity.py compares with what is printed."""
    said = parity(ROOT / 'docs/en/reproducing.md')
    assert len(said) == 3
    for readme in READMES:
        assert parity(readme) == dict(r50_single=said['r50_single'])


def check(command):
    """Every file of the project, flag and config field that a command names is there."""
    words = shlex.split(command)
    tools = [ROOT / word for word in words if word.startswith('tools/') and word.endswith(('.py', '.sh'))]
    for word in words:
        if word.startswith(('tools/', 'configs/')):
            assert (ROOT / word).exists(), f'{command}: {word} is not there'
    if not tools:
        return
    source = tools[0].read_text()
    if tools[0].suffix == '.sh':
        source += (ROOT / 'tools' / ('test.py' if 'test' in tools[0].name else 'train.py')).read_text()
    for word in words:
        assert not word.startswith('--') or f"'{word}'" in source, f'{command}: {tools[0].name} has no {word}'
    configs = [word for word in words if word.startswith('configs/')]
    if configs and '--cfg-options' in words:
        cfg = Config.fromfile(ROOT / configs[0])
        for option in takewhile(lambda word: not word.startswith('--'), words[words.index('--cfg-options') + 1 :]):
            check_field(cfg, option.partition('=')[0], command)


def check_field(cfg, field, where):
    """A field is in the config, or its owner's class or one of that one's bases takes it."""
    *owners, name = field.split('.')
    for part in owners:
        assert isinstance(cfg, list) or part in cfg, f'{where}: {field}: no {part}'
        cfg = cfg[int(part) if isinstance(cfg, list) else part]
    assert name in cfg or name in parameters(cfg.get('type')), f'{where}: {field}: no {name}'


def parameters(name):
    """Names of the arguments of a registered class and of its bases."""
    register_all_modules(init_default_scope=False)
    kind = next((kind for registry in REGISTRIES if name and (kind := registry.get(name))), None)
    return {name for base in inspect.getmro(kind) for name in inspect.signature(base).parameters} if kind else set()


def test_unknown_fields_are_found():
    for option in (
        'train_cfg.max_itersss=3',
        'optim_wrapper.clip_gradd=1',
        'model.scorerr.style=crop',
        'model.fusion.lamm=1',
    ):
        with pytest.raises(AssertionError, match='no '):
            check(f'python tools/train.py configs/zegformer_r101_coco.py --cfg-options {option}')
    check('python tools/train.py configs/zegformer_r101_coco.py --cfg-options optim_wrapper.accumulative_counts=8')


def test_inline_options():
    """Fields that the text names outside of blocks are fields of the published config."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r101_coco.py')
    found = 0
    for page in PAGES:
        text = FENCE.sub('', page.read_text())
        for field in re.findall(r'(?<![\w.])((?:model|optim_wrapper|auto_scale_lr)(?:\.\w+)+)=', text):
            check_field(cfg, field, page.name)
            found += 1
    assert found > 3


def test_pages_are_in_the_menu():
    menu = (ROOT / 'docs/mkdocs.yml').read_text()
    assert [page.name for page in PAGES if f'- {page.name}' not in menu] == []


def test_site_builds_without_a_warning(tmp_path):
    config = ROOT / 'docs/mkdocs.yml'
    run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', str(config), '-d', str(tmp_path / 'site')],
        ROOT,
    )
    page = (tmp_path / 'site/api/index.html').read_text()
    assert 'ZegFormerHead' in page and 'no_object_weight' in page
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page)
    assert loaded == [], 'a page must open without a network'
