import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from mmzeg.registry import MODELS
from mmzeg.utils.released_names import clip_names, convert_released, our_name, released_tau

CONFIG = Path(__file__).parents[2] / 'configs' / 'zegformer_r18_camvid.py'
NAMES = Path(__file__).parents[1] / 'data/released_state_dicts/zegformer_r50_coco_stuff.json'


def test_all_names_of_a_resnet_18():
    """detectron2's names: a shortcut where the stride or the width changes."""
    layers = ['stem.conv1']
    for stage in range(2, 6):
        layers += [f'res{stage}.{block}.conv{number}' for block in range(2) for number in (1, 2)]
        layers += [f'res{stage}.0.shortcut'] if stage > 2 else []
    names = [f'backbone.{layer}.weight' for layer in layers]
    statistics = ('weight', 'bias', 'running_mean', 'running_var')
    names += [f'backbone.{layer}.norm.{name}' for layer in layers for name in statistics]
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    ours = MODELS.build(Config.fromfile(CONFIG).model).backbone.state_dict()
    expected = {f'backbone.{name}' for name in ours if not name.endswith('num_batches_tracked')}
    assert {our_name(name) for name in names} == expected


def test_other_names_are_refused():
    assert our_name('backbone.res2.0.conv1.weight.extra') is None
    with pytest.raises(ValueError, match='not the weights of a released ZegFormer with a ResNet: it lacks backbone'):
        convert_released({'fc.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match='released per-pixel baseline .* it lacks backbone.stem'):
        convert_released({'sem_seg_head.projection_layer.weight': torch.zeros(1)})


@pytest.mark.parametrize('scale', [100.0, 4.6051702])
def test_the_scale_is_stored_as_it_is_or_as_its_logarithm(scale):
    for name in ('sem_seg_head.predictor.logit_scale', 'sem_seg_head.logit_scale'):
        assert released_tau({name: torch.tensor([scale])}) == pytest.approx(0.01, rel=1e-5)


def test_the_weights_of_a_frozen_clip_are_skipped():
    """CLIP_CLASSIFICATION on: the predictor holds CLIP."""
    state = {name: torch.ones([1] * len(shape)) for name, shape in json.loads(NAMES.read_text()).items()}
    state['sem_seg_head.predictor.logit_scale'] = torch.tensor([100.0])
    clip = [f'sem_seg_head.predictor.clip_model.{name}' for name in ('visual.conv1.weight', 'logit_scale')]
    with_clip = state | {name: torch.ones(1) for name in clip}
    assert clip_names(with_clip) == clip and not clip_names(state)
    assert convert_released(with_clip).keys() == convert_released(state).keys()
