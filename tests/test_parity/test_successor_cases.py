"""mmzeg equals the released code of the scorers that followed ZegFormer, and a case that is changed fails."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmzeg.parity import check_case

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/data/golden/successors'
MAPS = ['res2', 'res3', 'res4', 'res5', 'dense']
VALUES = {
    'ip_clip': ['embeddings'],
    'mask_prompt': ['embeddings', 'valid'],
    'fc_clip_convnext': [*MAPS, 'embeddings', 'ensemble'],
    'fc_clip_resnet': [*MAPS, 'embeddings', 'ensemble'],
}


def rows(comparison):
    return {row[0]: row[-1] for row in comparison.table.rows}


@pytest.mark.parametrize('case, values', VALUES.items())
def test_every_value(case, values):
    comparison = check_case(GOLDEN / case)
    assert rows(comparison) == dict.fromkeys(values, 'yes'), comparison.table
    assert not comparison.num_failed
    page = (ROOT / 'docs/en/reproducing.md').read_text()
    assert f'golden/successors/{case}' in page and f'`{len(values)} values, 0 off`' in page


@pytest.mark.parametrize('execution', ['tiled', 'batched'])
def test_mask_prompts_in_both_executions(execution):
    assert not check_case(GOLDEN / 'mask_prompt', execution=execution).num_failed


def test_a_mask_without_cells_is_not_compared_where_the_released_code_gives_nan():
    embeddings = load_file(GOLDEN / 'fc_clip_resnet/tensors.safetensors')['embeddings']
    assert embeddings.isnan().any(1).sum() >= 2 and not embeddings.isnan().all()


@pytest.fixture
def copy(tmp_path):
    """Return a function that copies a case, changes tensors or settings of the copy, and checks it."""

    def check(case, change_tensors=lambda tensors: None, **settings):
        folder = tmp_path / case
        shutil.copytree(GOLDEN / case, folder)
        tensors = load_file(folder / 'tensors.safetensors')
        change_tensors(tensors)
        save_file(tensors, folder / 'tensors.safetensors')
        content = json.loads((folder / 'case.json').read_text())
        (folder / 'case.json').write_text(json.dumps(content | settings))
        return check_case(folder)

    return check


@pytest.mark.parametrize('name', ['embeddings', 'dense', 'ensemble'])
def test_a_changed_value_fails(copy, name):
    def change(tensors):
        tensors[name][0, 0] += 0.01 * tensors[name].abs().max()

    failed = {value for value, is_ok in rows(copy('fc_clip_convnext', change)).items() if is_ok == 'NO'}
    # The ensemble is computed from the golden embeddings.
    assert name in failed and failed <= {name, 'ensemble'}


def test_an_unknown_tensor_fails(copy):
    comparison = copy('ip_clip', lambda tensors: tensors.update(tokens=torch.ones(2)))
    assert rows(comparison)['tokens (not compared)'] == 'NO'


@pytest.mark.parametrize(
    'case, settings',
    [
        ('ip_clip', dict(start_layer=5)),
        ('ip_clip', dict(input_size=[464, 480])),
        ('fc_clip_convnext', dict(alpha=0.5)),
        ('fc_clip_convnext', dict(ensemble_on_valid_mask=True)),
        ('fc_clip_resnet', dict(beta=0.7)),
    ],
)
def test_other_settings_fail(copy, case, settings):
    assert copy(case, **settings).num_failed


def test_weights_with_another_number_of_layers_are_refused(copy):
    with pytest.raises(ValueError, match="clip.safetensors: not a vision transformer in OpenAI's names with 5 layers"):
        copy('ip_clip', layers=5)
