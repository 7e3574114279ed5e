"""The comparison of teacher and students, with a teacher of random weights and students of two iterations."""

import json
import re

import pytest
import torch
from miniature_runs import ROOT, run
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

CONFIG = """
_base_ = '{root}/configs/zegformer_r18_world.py'
test_dataloader = dict(num_workers=0, dataset=dict(size=64, length=3))
"""


@pytest.fixture
def teacher(tmp_path):
    """A config of small scenes, and a checkpoint of random weights."""
    config = tmp_path / 'teacher.py'
    config.write_text(CONFIG.format(root=ROOT))
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return config, tmp_path / 'teacher.pth'


def table_lines(text):
    """Return the lines of a Markdown table, without what MMEngine prints about checkpoints."""
    return [line for line in text.splitlines() if line.startswith('|')]


def test_table_of_the_world(teacher, tmp_path):
    options = ('--student', 'fast_scnn', '--scenes', 12, '--iters', 2, '--ignore-below', 0.0)
    arguments = ('world', *teacher, '--work-dir', tmp_path / 'work', *options)
    table = table_lines(run('analysis_tools/measure_student.py', *arguments).stdout)
    rows = [re.split(r' *\| *', line.strip('| ')) for line in table]
    assert [row[:2] for row in rows[2:]] == [
        ['ZegFormer', ''],
        ['fast_scnn', "teacher's"],
        ['fast_scnn', '--ignore-below 0.0'],
        ['fast_scnn', 'ground truth'],
    ]
    assert {row[2] for row in rows[3:]} == {'0.0'} and all(float(row[6]) > 0 for row in rows[2:])
    # The scores are those of the tests; equal labels give equal students.
    folder = tmp_path / 'work/world_12'
    names = ('labels', 'labels_0.0', 'ground_truth')
    for name, row in zip(names, rows[3:], strict=True):
        metrics = json.loads((folder / f'fast_scnn_2_{name}/test/report.json').read_text())['metrics']
        assert [float(cell) for cell in row[3:6]] == pytest.approx(
            [metrics[score] for score in ('seen_mIoU', 'unseen_mIoU', 'hIoU')], abs=0.005
        )
    weights = [torch.load(folder / f'fast_scnn_2_{name}/iter_2.pth', weights_only=False) for name in names]
    same, other = (
        all(torch.equal(value, weights[index]['state_dict'][key]) for key, value in weights[0]['state_dict'].items())
        for index in (1, 2)
    )
    assert same and not other
    # Started again, nothing is trained or tested again.
    again = run('analysis_tools/measure_student.py', *arguments)
    assert [line.rpartition('|')[0].rpartition('|')[0] for line in table_lines(again.stdout)] == [
        line.rpartition('|')[0].rpartition('|')[0] for line in table
    ]
    assert 'label.py -> ' in again.stderr and 'train.py -> ' not in again.stderr and 'test.py -> ' not in again.stderr
