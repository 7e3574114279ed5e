"""The kind of a case decides how it is checked; tests/test_tools/test_check_parity.py checks the cases themselves."""

import json

import pytest
import torch

from mmzeg.parity import Comparison, case_kinds, check_case
from mmzeg.parity.options import CheckOptions


@pytest.mark.parametrize(
    'settings, files, kind',
    [
        ({}, (), 'zegformer'),
        ({}, ('per_pixel_official.safetensors',), 'per_pixel'),
        (dict(kind='zegformer'), ('per_pixel_official.safetensors',), 'zegformer'),
    ],
)
def test_kind_is_read_or_follows_from_the_weights(tmp_path, monkeypatch, settings, files, kind):
    checked = []

    def checker(name):
        def check(folder, content, options):
            checked.append((name, folder, content, options))
            return Comparison(dict(res5=torch.ones(1)))

        return check

    monkeypatch.setattr(case_kinds, 'KINDS', {name: checker(name) for name in case_kinds.KINDS})
    (tmp_path / 'case.json').write_text(json.dumps(settings))
    for name in files:
        (tmp_path / name).touch()
    comparison = check_case(tmp_path, execution='batched')
    assert checked == [(kind, tmp_path, settings, CheckOptions('cpu', 'batched'))]
    assert comparison.num_failed == 1, 'res5 was not compared'


def test_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / 'case.json').write_text('{"kind": "SAN"}')
    with pytest.raises(ValueError, match="case.json: kind 'SAN' is unknown: use one of zegformer, per_pixel"):
        check_case(tmp_path)


def test_missing_weights_are_named(tmp_path):
    (tmp_path / 'case.json').write_text('{}')
    (tmp_path / 'tensors.safetensors').touch()
    with pytest.raises(FileNotFoundError, match='zegformer_official.safetensors: no such file'):
        check_case(tmp_path)
