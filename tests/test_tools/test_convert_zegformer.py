import json
import os
from pathlib import Path

import pytest
import torch
from python_runs import run_python

ROOT = Path(__file__).parents[2]
LISTS = ROOT / 'tests' / 'data' / 'released_state_dicts'


def convert(*arguments):
    command = [str(ROOT / 'tools' / 'model_converters' / 'zegformer.py'), *map(str, arguments)]
    return run_python(command)


@pytest.fixture
def released(tmp_path):
    """A synthetic R50 checkpoint in detectron2's form: the right names, narrow tensors."""
    names = json.loads((LISTS / 'zegformer_r50_coco_stuff.json').read_text())
    weights = {name: torch.ones([1 if side > 8 else side for side in shape]) for name, shape in names.items()}
    weights['sem_seg_head.predictor.logit_scale'].fill_(4.6052)
    return weights


def test_a_detectron2_checkpoint(released, tmp_path):
    source, target = tmp_path / 'model_final.pth', tmp_path / 'new/converted.pth'
    # Trained with CLIP_CLASSIFICATION on, the checkpoint holds CLIP too.
    clip = {f'sem_seg_head.predictor.clip_model.{name}': torch.ones(1) for name in ('visual.proj', 'logit_scale')}
    torch.save(dict(model=released | clip, iteration=5), source)
    result = convert(source, target)
    assert result.returncode == 0, result.stderr
    assert '2 weights of a frozen CLIP skipped' in result.stdout
    weights = torch.load(target, weights_only=True)['state_dict']
    assert 'decode_head.classifier.no_object' in weights
    counters = [name for name in weights if name.endswith('num_batches_tracked')]
    assert len(weights) - len(counters) == len(released) - 2
    refused = convert(source, target)
    assert refused.returncode == 2 and '--overwrite' in refused.stderr
    assert convert(source, target, '--overwrite').returncode == 0


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda weights: weights.pop('sem_seg_head.predictor.bg_feature'), 'lacks sem_seg_head.predictor.bg_feature'),
        (lambda weights: weights.update(unexpected=torch.ones(1)), 'unknown names: unexpected'),
        (lambda weights: weights['sem_seg_head.predictor.logit_scale'].fill_(3.0), '1 / tau = 20'),
        (
            lambda weights: weights['backbone.stem.conv1.weight'].fill_(torch.nan),
            'model.pth: backbone.conv1.weight is NaN',
        ),
    ],
)
def test_other_checkpoints_are_refused(released, tmp_path, change, message):
    change(released)
    torch.save(dict(model=released), tmp_path / 'model.pth')
    result = convert(tmp_path / 'model.pth', tmp_path / 'converted.pth')
    assert result.returncode == 2 and message in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'converted.pth').exists()


def test_a_resnet_18_has_no_shortcut_in_its_first_stage(released, tmp_path):
    for name in [name for name in released if name.startswith('backbone.res2.0.shortcut') or '.conv3.' in name]:
        del released[name]
    torch.save(dict(model=released), tmp_path / 'model.pth')
    result = convert(tmp_path / 'model.pth', tmp_path / 'converted.pth')
    assert result.returncode == 0, result.stderr


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


def test_pickled_code_is_not_run(tmp_path):
    torch.save(dict(model=Payload(tmp_path / 'run')), tmp_path / 'model.pth')
    result = convert(tmp_path / 'model.pth', tmp_path / 'converted.pth')
    assert result.returncode == 2 and 'model.pth' in result.stderr
    assert not (tmp_path / 'run').exists()
