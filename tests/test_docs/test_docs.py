"""The code blocks of the READMEs and of docs/en run, with trainings of two iterations, or are marked as needing more.

A block's title says what it is: a file name (it is written under that name; a config is checked), "needs ..." (its
commands are checked against the tools' arguments and the configs' fields), or nothing (it runs). A Python block that
"needs a checkpoint" runs with a model of the procedural dataset, which has random weights.
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
import yaml
from mmengine.config import Config
from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS, VISBACKENDS
from mmseg.registry import DATASETS, METRICS, MODELS, TASK_UTILS, TRANSFORMS
from mmseg.utils import register_all_modules
from python_runs import run_command, run_python

import mmzeg
from mmzeg.datasets.world import CLASSES
from mmzeg.utils.preflight import datasets_of
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / 'docs/en').glob('*.md'))
READMES = [ROOT / 'README.md', ROOT / 'README_zh-CN.md']
LINK = r'\]\(((?!https?:)[^)#]+)'
FENCE = re.compile(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', re.M | re.S)
# A fence that FENCE misses would not be tested.
ANY_FENCE = re.compile(r'^[ >]*(?:```|~~~)', re.M)
COMMENT = re.compile(r'^ *#.*\n', re.M)
SHORT = {
    'tools/train.py': 'train_cfg.max_iters=2 train_dataloader.batch_size=2 val_dataloader.dataset.length=2',
    'tools/test.py': 'test_dataloader.dataset.length=2',
    'sweep.py': 'val_dataloader.dataset.length=2',
    'diagnose.py': 'test_dataloader.dataset.length=2',
}
REGISTRIES = (MODELS, DATASETS, HOOKS, LOOPS, OPTIM_WRAPPERS, VISBACKENDS)
# Saves a checkpoint and an image for Python blocks that need them.
PREPARE_CHECKPOINT = """
import torch
from PIL import Image
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from mmzeg.datasets.world import Scene, draw_scene
register_all_modules()
model = MODELS.build(Config.fromfile('configs/zegformer_r18_world.py').model)
torch.save(dict(state_dict=model.state_dict()), 'zegformer_r101_coco.pth')
Image.fromarray(draw_scene(Scene('test', 0, 64))[0]).save('street.jpg')
"""


@dataclass
class Block:
    language: str
    title: str
    text: str


def blocks(page):
    return [Block(*(group or '' for group in match)) for match in FENCE.findall(page.read_text())]


def commands(text):
    """Return the command lines of a block of shell."""
    return [line for line in text.replace('\\\n', ' ').splitlines() if line.strip() and not line.startswith('#')]


def shorten(command, folder):
    """Return the same command with two iterations, two images and no worker processes."""
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


def run(command, folder):
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    environment = os.environ | dict(PATH=path, OMP_NUM_THREADS='1')
    if isinstance(command, str):
        result = run_command(command, folder, environment)
    else:
        result = run_python(command, folder, environment)
    assert result.returncode == 0, f'{command}\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}'
    return result.stdout


def run_with_checkpoint(text, folder):
    """Run a Python block that needs a checkpoint; returns what it prints."""
    if not (folder / 'street.jpg').exists():
        run(['-c', PREPARE_CHECKPOINT], folder)
    return run(['-c', text.replace("'zegformer_r101_coco'", "'zegformer_r18_world'")], folder)


@pytest.mark.parametrize('page', PAGES + READMES, ids=lambda page: page.stem)
def test_fences_have_a_known_form(page):
    num_fences = len(ANY_FENCE.findall(page.read_text()))
    assert num_fences == 2 * len(blocks(page)), 'a fence is indented, or has a form that this test does not know'


# The Chinese README has the same blocks as README.md, see test_readmes_say_the_same.
@pytest.mark.parametrize('page', PAGES + READMES[:1], ids=lambda page: page.stem)
def test_blocks(page, folder):
    page_blocks = blocks(page)
    for block in page_blocks:
        if block.language == 'bibtex':
            continue
        assert block.language in ('bash', 'python'), f'{block.language}: not a language that this test runs'
        if block.title.startswith('needs '):
            if block.language == 'bash':
                for command in commands(block.text):
                    check(command)
            elif block.title == 'needs a checkpoint':
                printed = run_with_checkpoint(block.text, folder)
                if page.name == 'README.md':
                    # MMEngine's line about the checkpoint, then the size and the segments.
                    assert re.search(r'^\(64, 64\)\n[a-z ,]+ [\d.e-]+ \d+$', printed, re.M), printed
            else:
                compile(block.text, page.name, 'exec')
        elif block.title:
            (folder / block.title).write_text(block.text)
            if "_base_ = 'configs/" in block.text:
                check_classes(Config.fromfile(folder / block.title, import_custom_modules=False), block.title)
        elif block.language == 'python':
            run(['-c', re.sub(r'iter_\d+\.pth', 'iter_2.pth', block.text)], folder)
        else:
            for command in commands(block.text):
                # Run by tests/test_tools/test_check_parity.py.
                if 'check_parity.py' in command:
                    check(command)
                else:
                    run(shorten(command, folder), folder)


@pytest.mark.parametrize('readme', READMES, ids=lambda page: page.stem)
def test_readme(readme, folder):
    """The config, which test_blocks trains and tests, has unseen classes; links and names exist."""
    by_title = {block.title: block.text for block in blocks(readme)}
    (folder / 'readme_config.py').write_text(by_title['readme_config.py'])
    vocabulary = Vocabulary.build(Config.fromfile(folder / 'readme_config.py').model.decode_head.classifier.vocabulary)
    assert vocabulary.unseen == ('umbrella', 'flag') and len(vocabulary.seen) == 4
    run_commands = [line for block in blocks(readme) if not block.title for line in commands(block.text)]
    assert [f'tools/{name}.py readme_config.py' in ''.join(run_commands) for name in ('train', 'test')] == [True, True]

    text = FENCE.sub('', readme.read_text())
    links = re.findall(LINK, text)
    assert len(links) > 10 and [link for link in links if not (ROOT / link).is_file()] == []
    anchors = re.findall(r'\]\(([\w./-]*)#([\w-]+)\)', text)
    missing = [(path, anchor) for path, anchor in anchors if anchor not in anchors_of(ROOT / (path or readme.name))]
    assert len(anchors) >= 5 and missing == []
    tools = re.findall(r'`(tools/\S+?\.py)`', text)
    assert len(tools) >= 7 and [tool for tool in tools if not (ROOT / tool).is_file()] == []
    configs = re.findall(r'`((?:zegformer|per-pixel)_[\w-]+)`', text)
    assert len(configs) >= 15 and [name for name in configs if not (ROOT / f'configs/{name}.py').is_file()] == []
    register_all_modules(init_default_scope=False)
    classes = re.findall(r'`(mmzeg\.[A-Z]\w+)`', text)
    registries = (*REGISTRIES, METRICS, TASK_UTILS, TRANSFORMS)
    assert len(classes) >= 15
    assert [name for name in classes if not any(registry.get(name) for registry in registries)] == []


def anchors_of(page):
    """Return the anchors of a page's headings, and those that it sets itself."""
    text = FENCE.sub('', page.read_text())
    headings = re.findall(r'^#+ (.+)$', text, re.M)
    slugs = [re.sub(r'[^\w -]', '', heading).strip().lower().replace(' ', '-') for heading in headings]
    return {*slugs, *re.findall(r'<a id="([\w-]+)">', text)}


def test_readmes_say_the_same():
    """In both languages there are the same blocks, classes, tools, links and numbers."""
    english, chinese = (
        [set(re.findall(pattern, FENCE.sub('', readme.read_text()))) for pattern in ('`([^`\n]+)`', LINK, r'\d+\.\d+')]
        for readme in READMES
    )
    readmes = {readme.name for readme in READMES}
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours - readmes == theirs - readmes and len(ours) > 10
    english_blocks, chinese_blocks = (
        [(block.title, COMMENT.sub('', block.text)) for block in blocks(readme)] for readme in READMES
    )
    assert english_blocks == chinese_blocks


def parity(page):
    """What a page says that the parity tool prints, by golden case."""
    cases = re.findall(r'check_parity\.py tests/data/golden/([\w/]+)', page.read_text())
    return dict(zip(cases, re.findall(r'`(\d+ values, 0 off)`', page.read_text()), strict=True))


def test_parity_figures():
    """As on the page that tests/test_tools/test_check_parity.py compares with what is printed."""
    documented = parity(ROOT / 'docs/en/reproducing.md')
    assert len(documented) == 7
    for readme in READMES:
        assert parity(readme) == dict(r50_single=documented['r50_single'])


def check_classes(cfg, where):
    """Check what train and test refuse: model and datasets must have the same classes in the same order."""
    classifier = cfg.model.decode_head.classifier
    vocabulary = Vocabulary.build(classifier.vocabulary)
    trained = classifier.get('train_vocabulary')
    expected = Vocabulary.build(trained).names if trained else vocabulary.seen
    for field in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in datasets_of(cfg[field].dataset):
            meta = dataset.metainfo
            if field == 'train_dataloader':
                assert tuple(meta.classes) == expected, f'{where}: {field}'
            elif field == 'test_dataloader' or not trained:
                assert tuple(meta.classes) == vocabulary.names, f'{where}: {field}'
                assert set(meta.unseen_classes) == set(vocabulary.unseen), f'{where}: {field}'
            # The folder that tools/dataset_converters/world.py writes in the examples.
            if dataset.get('data_root') == 'data/mine':
                values = {name: value for name, value in dataset.labels.items() if name in CLASSES}
                assert values == {name: CLASSES.index(name) for name in values}, f'{where}: {field}: labels'


def check(command):
    """Check that every file of the project, flag, config field and make target that a command names exists."""
    words = shlex.split(command)
    for word in words:
        if word.startswith(('tools/', 'configs/')):
            assert (ROOT / word).exists(), f'{command}: {word} does not exist'
    if 'make' in words:
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
        for word in words[words.index('make') + 1 :]:
            assert word in targets or re.fullmatch(r'(STACK|PYTHON|DEVICE)=\S+', word), f'{command}: make has no {word}'
    names = [word for word in words if word.startswith('tools/') and word.endswith(('.py', '.sh'))]
    if not names:
        return
    tool = ROOT / names[0]
    source = tool.read_text()
    if tool.suffix == '.sh':
        source += (ROOT / 'tools' / ('test.py' if 'test' in tool.name else 'train.py')).read_text()
    for word in words[words.index(names[0]) :]:
        assert not word.startswith('--') or f"'{word}'" in source, f'{command}: {tool.name} has no {word}'
    configs = [word for word in words if word.startswith('configs/')]
    if configs and '--cfg-options' in words:
        cfg = Config.fromfile(ROOT / configs[0])
        for option in takewhile(lambda word: not word.startswith('--'), words[words.index('--cfg-options') + 1 :]):
            check_field(cfg, option.partition('=')[0], command)


def check_field(cfg, field, where):
    """Check that a field is in the config, or that its owner's class or a base of that class takes it."""
    *owners, name = field.split('.')
    for key in owners:
        assert isinstance(cfg, list) or key in cfg, f'{where}: {field}: no {key}'
        cfg = cfg[int(key) if isinstance(cfg, list) else key]
    assert name in cfg or name in parameters(cfg.get('type')), f'{where}: {field}: no {name}'


def parameters(name):
    """Return the names of the arguments of a registered class and of its bases."""
    register_all_modules(init_default_scope=False)
    kind = next((kind for registry in REGISTRIES if name and (kind := registry.get(name))), None)
    return {name for base in inspect.getmro(kind) for name in inspect.signature(base).parameters} if kind else set()


def test_unknown_fields_fail():
    for option in (
        'train_cfg.max_itersss=3',
        'optim_wrapper.clip_gradd=1',
        'model.scorerr.crop_mode=crop',
        'model.fusion.lamm=1',
    ):
        with pytest.raises(AssertionError, match='no '):
            check(f'python tools/train.py configs/zegformer_r101_coco.py --cfg-options {option}')
    check('python tools/train.py configs/zegformer_r101_coco.py --cfg-options optim_wrapper.accumulative_counts=8')
    with pytest.raises(AssertionError, match='make has no'):
        check('FORCE_CUDA=1 make environment STACK=onedl')
    check('FORCE_CUDA=1 make env STACK=onedl')


def test_other_classes_fail():
    """A config whose model and datasets have different classes does not pass check_classes."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    check_classes(cfg, 'world')
    cfg.model.decode_head.classifier.vocabulary = dict(classes=['grass', 'kite'], unseen=['kite'])
    with pytest.raises(AssertionError, match='train_dataloader'):
        check_classes(cfg, 'other')


def test_inline_options():
    """Fields that the text names outside of blocks are fields of the published config."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r101_coco.py')
    num_fields = 0
    for page in PAGES + READMES:
        text = FENCE.sub('', page.read_text())
        for field in re.findall(r'(?<![\w.])((?:model|optim_wrapper|auto_scale_lr)(?:\.\w+)+)=', text):
            check_field(cfg, field, page.name)
            num_fields += 1
    assert num_fields > 3


def test_pages_are_in_the_menu():
    menu = (ROOT / 'docs/mkdocs.yml').read_text()
    assert [page.name for page in PAGES if f'- {page.name}' not in menu] == []


def test_badges_and_citation():
    """The badges state the licence and the Python versions of the package; CITATION.cff has its version."""
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == mmzeg.__version__ and citation['license'] == 'Apache-2.0'
    setup = (ROOT / 'setup.py').read_text()
    assert "license='Apache-2.0'" in setup and "python_requires='>=3.10,<3.13'" in setup
    for readme in READMES:
        badges = re.findall(r'\((docs/en/images/badge_\w+\.svg)\)', readme.read_text())
        texts = [(ROOT / badge).read_text() for badge in badges]
        assert 'Apache-2.0' in texts[0] and '3.10 | 3.11 | 3.12' in texts[1] and len(badges) == 2


def test_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', ROOT / 'docs/mkdocs.yml']
    subprocess.run([*command, '-d', tmp_path / 'site'], check=True)
    page = (tmp_path / 'site/api/index.html').read_text()
    assert 'ZegFormerHead' in page and 'no_object_weight' in page
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page)
    assert loaded == [], 'a page must open without a network'
