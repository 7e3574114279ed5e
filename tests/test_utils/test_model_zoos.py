"""Weights are named as in the model zoos; a name that a zoo lacks is refused before anything is built."""

import pytest
from mmengine.config import Config

from mmzeg.utils.model_zoos import check_zoo_name
from mmzeg.utils.preflight import check_config


@pytest.mark.parametrize(
    'checkpoint',
    [
        'torchvision://resnet50',
        'modelzoo://resnet18',
        'open-mmlab://resnet101_v1c',
        'openmmlab://msra/hrnetv2_w18',
        'mmcls://mobilenet_v2',
        # A deprecated name of MMEngine's.
        'open-mmlab://resnet50_caffe',
        # No zoo.
        'https://example.com/weights.pth',
        's3://bucket/weights.pth',
    ],
)
def test_names_of_the_zoos(checkpoint):
    check_zoo_name(checkpoint)


@pytest.mark.parametrize(
    'checkpoint, similar',
    [
        ('torchvision://resnet19', 'resnet18'),
        ('open-mmlab://resnet101v1c', 'resnet101_v1c'),
        ('mmcls://mobilenetv2', 'mobilenet_v2'),
    ],
)
def test_an_unknown_name_is_refused_with_similar_ones(checkpoint, similar):
    model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))
    cfg = Config(dict(model=model, optim_wrapper=dict(type='OptimWrapper')))
    with pytest.raises(ValueError, match=f'{checkpoint}: the model zoo has no weights of this name; .*{similar}'):
        check_config(cfg, ('train_dataloader',))
