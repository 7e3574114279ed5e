import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmzeg.engine  # noqa: F401


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            dict(norm=nn.LayerNorm(2), conv=nn.Conv2d(1, 1, 1), batch_norm=nn.BatchNorm2d(1), attention=nn.Module())
        )
        self.backbone['attention'].relative_position_bias_table = nn.Parameter(torch.ones(2))
        self.query_embed = nn.Embedding(2, 2)
        self.linear = nn.Linear(2, 2)


def rates_and_decays(**kwargs):
    model = Model()
    cfg = dict(
        type='OptimWrapper',
        constructor='mmzeg.NoDecayConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5),
        **kwargs,
    )
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    options = {id(group['params'][0]): (group['lr'], group['weight_decay']) for group in groups}
    return {name: options[id(parameter)] for name, parameter in model.named_parameters()}


def test_rates_and_decays():
    options = rates_and_decays(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
    assert options.pop('backbone.conv.weight') == options.pop('backbone.conv.bias') == (0.1, 0.5)
    assert options.pop('linear.weight') == options.pop('linear.bias') == (1.0, 0.5)
    assert options.pop('query_embed.weight') == (1.0, 0.0)
    assert len(options) == 5 and set(options.values()) == {(0.1, 0.0)}


def test_without_paramwise_options():
    options = rates_and_decays()
    assert options['linear.weight'] == (1.0, 0.5) and options['backbone.norm.bias'] == (1.0, 0.0)
