"""The sweep equals single tests, resumes after kill -9, evaluates held-out classes, and warns of bad choices."""

import csv
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
TOOL = ROOT / 'tools/analysis_tools/sweep.py'
FIELDS = [
    field
    for split in ('val', 'test')
    for field in (
        f'{split}_dataloader.dataset.length=5',
        f'{split}_dataloader.dataset.size=64',
        f'{split}_dataloader.num_workers=0',
        f'{split}_dataloader.persistent_workers=False',
    )
]
# Nearly equal scores: every setting classifies pixels differently.
FIELDS += ['test_dataloader.dataset.split=val', 'model.decode_head.classifier.tau=0.2']
GRID = ('--gamma', '0:0.02:0.005', '--lam', '0,0.5,0.9', '--alpha', '0.2,0.4', '--cfg-options', *FIELDS)
NAMES = 'heart,circle,square,water,wood'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.decode_head.mask_embed[-1].weight.data *= 30
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    seen = list(model.vocabulary.seen)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=seen))), path)
    return path


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a tool in this process and return what it printed; an error is a SystemExit."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
        with torch.no_grad():
            runpy.run_path(str(tool), run_name='__main__')
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    # Formatting the config, four times per run, would take most of the time.
    for module in ('yapf.yapflib.yapf_api', 'mmengine.config.config'):
        monkeypatch.setattr(f'{module}.FormatCode', lambda text, **_: (text, True), raising=False)
    yield run
    torch.set_grad_enabled(True)


def read_sweep(folder):
    return json.loads((folder / 'sweep.json').read_text())


def test_equals_single_tests_at_random_points(call, checkpoint, tmp_path):
    call(TOOL, CONFIG, checkpoint, '--out', 'out', *GRID)
    content = read_sweep(tmp_path / 'out')
    rows = content['rows']
    assert len(rows) == 5 * (1 + 1 + 3 + 3 + 2 * 1)
    points = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:5]
    for index, row in enumerate(rows[point] for point in points):
        fields = [f'model.fusion.{name}={row[name]}' for name in ('mode', 'lam', 'gamma', 'alpha', 'beta')]
        call(
            ROOT / 'tools/test.py', CONFIG, checkpoint, '--work-dir', f'test_{index}', '--cfg-options', *FIELDS, *fields
        )
        expected = json.loads((tmp_path / f'test_{index}/report.json').read_text())['metrics']
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert len({row['hIoU'] for row in rows}) > 10
    with (tmp_path / 'out/sweep.csv').open() as file:
        assert [{name: str(value) for name, value in row.items()} for row in rows] == list(csv.DictReader(file))
    assert content['best']['img'] == max((row for row in rows if row['mode'] == 'img'), key=lambda row: row['hIoU'])
    assert (tmp_path / 'out/sweep.png').read_bytes()[1:4] == b'PNG'
    assert not (tmp_path / 'out/unfinished.pt').exists()


# The process kills itself once the third image is counted.
KILL = """
import os, runpy, sys
from mmzeg.evaluation import Sweep
original = Sweep.process
def process(self, batch):
    original(self, batch)
    if self.num_images == 3:
        os.kill(os.getpid(), 9)
Sweep.process = process
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_a_killed_sweep_resumes_unless_something_differs(call, checkpoint, tmp_path, monkeypatch, capsys):
    arguments = [CONFIG, checkpoint, '--modes', 'seg', 'img', '--save-every', 0, *GRID]
    code = f'import sys\nsys.argv[0] = {str(TOOL)!r}\n{KILL}'
    killed = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)],
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    folder = tmp_path / 'work_dirs/sweep/zegformer_r18_world'
    assert [path.name for path in folder.iterdir()] == ['unfinished.pt']
    state = (folder / 'unfinished.pt').read_bytes()

    for changed, message in (
        ([*arguments, 'model.decode_head.classifier.tau=0.3'], 'another config.model.decode_head.classifier.tau'),
        ([*arguments, '--gamma', '0.1'], 'another settings'),
        ([*arguments, 'val_dataloader.dataset.length=4'], 'another data'),
    ):
        with pytest.raises(SystemExit) as error:
            call(TOOL, *changed)
        assert error.value.code == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert message in last and 'unfinished.pt' in last
    assert (folder / 'unfinished.pt').read_bytes() == state

    # Workers decide no result.
    printed = call(TOOL, *arguments, 'val_dataloader.num_workers=1')
    assert 'resumes after 2 of 5 images' in printed
    resumed = read_sweep(folder)['rows']
    assert 'resumes' not in call(TOOL, *arguments[:2], '--out', 'complete', *arguments[2:])
    assert resumed == read_sweep(tmp_path / 'complete')['rows']

    (folder / 'unfinished.pt').write_bytes(state[:1000])
    with pytest.raises(SystemExit):
        call(TOOL, *arguments)
    assert 'truncated or not the state of a sweep' in capsys.readouterr().err


def test_held_out_classes_replace_the_unseen_ones(call, checkpoint, tmp_path):
    arguments = ('--modes', 'seg', 'full', *GRID)
    printed = call(TOOL, CONFIG, checkpoint, '--held-out', NAMES, '--out', 'out', *arguments)
    assert f'trained with labels of {NAMES.replace(",", ", ")}' in printed
    assert 'left out, their pixels ignored: umbrella, anchor' in printed and 'tunes on' not in printed
    # The same by hand: the config of a training without these classes.
    cfg = Config.fromfile(CONFIG)
    names = NAMES.split(',')
    evaluated = dict(classes=list(cfg.seen_classes), unseen_classes=names)
    cfg.val_dataloader.dataset.metainfo = evaluated
    cfg.model.decode_head.classifier.vocabulary = dict(classes=evaluated['classes'], unseen=names)
    cfg.dump(tmp_path / 'by_hand.py')
    weights = torch.load(checkpoint)
    weights['meta']['dataset_meta']['classes'] = [name for name in cfg.seen_classes if name not in names]
    torch.save(weights, tmp_path / 'without.pth')
    printed = call(TOOL, 'by_hand.py', 'without.pth', '--held-out', NAMES, '--out', 'by_hand', *arguments)
    assert 'trained with labels' not in printed and 'unseen in the config itself' in printed
    assert read_sweep(tmp_path / 'out')['rows'] == read_sweep(tmp_path / 'by_hand')['rows']
    assert read_sweep(tmp_path / 'out')['held_out'] == names


def test_warns_of_tuning_on_unseen_classes(call, checkpoint):
    printed = call(TOOL, CONFIG, checkpoint, '--data', 'test', '--modes', 'seg', *GRID)
    warnings = [line for line in printed.splitlines() if line.startswith('warning')]
    assert 'tunes on the unseen classes themselves (umbrella, anchor, knight, telephone,' in warnings[0]
    assert 'images of the test' in warnings[1]
    assert warnings[:2] == warnings[2:], 'printed before the pass and after it'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('--held-out', 'heart, circle'), "class 'heart, circle' is not in the vocabulary"),
        (('--held-out', '34'), 'below 34 seen classes'),
        (('--held-out', '0.001'), 'below 34 seen classes'),
        (('--held-out', '2.5'), 'below 34 seen classes'),
        (('--gamma', '0.5:0:0.1'), 'neither a,b,c nor first:last:step'),
        (('--gamma=-0.1',), 'gamma must be 0 or more'),
        (('--lam', '1.5'), 'lam must lie in [0, 1]'),
        (('--modes', 'pixel'), "mode 'pixel' is not a mode of this model"),
        (
            (
                '--cfg-options',
                'model.test_cfg.mode=slide',
                'model.test_cfg.crop_size=(64,64)',
                'model.test_cfg.stride=(48,48)',
            ),
            "in mode 'slide'",
        ),
        (('--cfg-options', 'val_dataloader.dataset.metainfo.unseen_classes=[sun]'), 'unseen in only one of'),
        (('--cfg-options', 'val_dataloader=None'), 'no val_dataloader'),
    ],
)
def test_bad_input_ends_in_one_line(call, checkpoint, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        call(TOOL, CONFIG, checkpoint, *arguments)
    assert error.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    'tool, config, options, message',
    [
        ('world/figure.py', 'per-pixel_r18_world', (), 'has no segments: give a config of mmzeg.ZegFormer'),
        ('world/scorers.py', 'per-pixel_r18_world', (), 'has no segments: give a config of mmzeg.ZegFormer'),
        (
            'analysis_tools/diagnose.py',
            'zegformer_r18_world',
            ('model.scorer=None',),
            'the model has no scorer: set model.scorer',
        ),
        ('analysis_tools/diagnose.py', 'zegformer_r18_world', ('test_dataloader=None',), 'no test_dataloader'),
        ('analysis_tools/check_dataset.py', 'zegformer_r18_world', ('train_dataloader=None',), 'no train_dataloader'),
    ],
)
def test_configs_without_what_a_tool_needs(call, capsys, tool, config, options, message):
    arguments = dict(check_dataset=(), figure=('missing.pth', 'out.png')).get(Path(tool).stem, ('missing.pth',))
    with pytest.raises(SystemExit) as error:
        call(ROOT / 'tools' / tool, config, *arguments, *(('--cfg-options', *options) if options else ()))
    assert error.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
