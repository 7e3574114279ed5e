"""mmzeg equals the released code on every golden case, and a case that is changed or damaged fails."""

import json
import os
import shutil
from pathlib import Path

import pytest
from python_runs import run_python
from safetensors.torch import load_file, save_file

from mmzeg.models.scorers import clip_crop_scorer
from mmzeg.models.scorers.crops import crop_segments
from mmzeg.parity import zegformer_case
from mmzeg.parity.case_kinds import check_case

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'data' / 'golden'


def run(case, *arguments):
    command = [str(ROOT / 'tools' / 'analysis_tools' / 'check_parity.py'), str(case), *arguments]
    return run_python(command)


@pytest.mark.parametrize('case', ['r50_single', 'r50_batch2', 'per_pixel'])
def test_golden_case(case):
    result = run(GOLDEN / case)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ' NO ' not in result.stdout
    assert f'`{result.stdout.splitlines()[-1]}`' in (ROOT / 'docs/en/reproducing.md').read_text()


@pytest.mark.parametrize('case', ['r50_single', 'r50_batch2'])
def test_golden_case_in_batched_execution(case):
    result = run(GOLDEN / case, '--execution', 'batched')
    assert result.returncode == 0 and ' NO ' not in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize('execution', ['tiled', 'batched'])
def test_crops_are_cut_in_the_execution(execution, monkeypatch):
    strategies = set()

    def crop(image, masks, size, crop_mode, is_batched=False):
        strategies.add(is_batched)
        return crop_segments(image, masks, size, crop_mode, is_batched)

    for module in (zegformer_case, clip_crop_scorer):
        monkeypatch.setattr(module, 'crop_segments', crop)
    assert check_case(GOLDEN / 'r50_single', 'cpu', execution).num_failed == 0
    assert strategies == {execution == 'batched'}


def test_a_changed_value_and_an_unknown_one_fail(tmp_path):
    case = tmp_path / 'case'
    shutil.copytree(GOLDEN / 'r50_single', case)
    tensors = load_file(case / 'tensors.safetensors')
    tensors['pred_masks'][0, 0, 0, 0] += tensors['pred_masks'].abs().max()
    tensors['extra'] = tensors['res5'].clone()
    save_file(tensors, case / 'tensors.safetensors')
    settings = json.loads((case / 'case.json').read_text())
    settings['losses']['loss_ce'] *= 1.01
    (case / 'case.json').write_text(json.dumps(settings))
    result = run(case)
    assert result.returncode == 1
    failed = [line.split('|')[1].strip() for line in result.stdout.splitlines() if ' NO ' in line]
    assert sorted(failed) == ['extra (not compared)', 'loss_ce', 'pred_masks']


def test_a_truncated_case(tmp_path):
    case = tmp_path / 'case'
    shutil.copytree(GOLDEN / 'r50_single', case)
    os.truncate(case / 'tensors.safetensors', 1000)
    result = run(case)
    assert result.returncode == 2 and 'tensors.safetensors: truncated' in result.stderr.splitlines()[-1]


def test_missing_case(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 2
    assert 'case.json: no such file' in result.stderr and 'Traceback' not in result.stderr
