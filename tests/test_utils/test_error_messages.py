"""Tools end in one line: exit code 2 for bad input, 1 for other errors, whose stack trace is in a file."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import Registry
from mmengine.runner import Runner

from mmzeg.utils.error_messages import bad_input_message
from mmzeg.utils.preflight import one_line_errors

LAYERS = Registry('layer')


@LAYERS.register_module()
class Narrow:
    def __init__(self, width):
        pass


@LAYERS.register_module()
class Deep(Narrow):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


@LAYERS.register_module()
class Sized:
    def __init__(self, depth=18, width=1):
        if width > 8:
            raise AssertionError('width must be below 9')
        self.blocks = {18: 2, 50: 3}[depth]


@LAYERS.register_module()
class Network:
    def __init__(self, layer):
        LAYERS.build(layer)


class Tiny(BaseModel):
    """A model that the runner can train."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, *inputs, mode='tensor'):
        return dict(loss=self.layer.weight.sum())


@pytest.mark.parametrize(
    'layer, message',
    [
        (dict(type='Narow', width=1), "layer 'Narow' is not registered: correct this type, or name its module"),
        (dict(type='Narrow', widht=1), "Narrow has no field 'widht': correct its name in the config"),
        (dict(type='Deep', width=1, depth=2), "Narrow has no field 'depth': correct its name in the config"),
        (dict(type='Narrow'), "Narrow needs 'width': set it in the config"),
        (dict(width=1), "{'width': 1} in the config has no type: add it"),
        (dict(type='Sized', depth=19), 'Sized: 19: correct its fields in the config'),
        (dict(type='Sized', width=9), 'Sized: width must be below 9: correct its fields in the config'),
    ],
)
def test_mistyped_types_and_fields(layer, message, monkeypatch, capsys):
    # The loggers of other tests write to captured streams that are closed by now.
    monkeypatch.setattr(MMLogger, '_instance_dict', type(MMLogger._instance_dict)())

    @one_line_errors
    def main():
        LAYERS.build(dict(type='Network', layer=layer))

    with pytest.raises(SystemExit) as caught:
        main()
    # Warnings of other packages may come first.
    *warnings, line = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and line.startswith(f'mmzeg: error: {message}')
    assert not any('Traceback' in warning for warning in warnings)


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(train_dataloader=dict(batchsize=1)), "DataLoader has no field 'batchsize'"),
        (dict(custom_hooks=[dict(type='EMAHook', momentm=0.1)]), "ExponentialMovingAverage has no field 'momentm'"),
        (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lrr=0.1))), "SGD has no field 'lrr'"),
    ],
)
def test_mistyped_fields_of_a_run(tmp_path, fields, message):
    """The runner calls some constructors without MMEngine's builder."""
    cfg = dict(
        model=Tiny(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=[0], sampler=dict(type='DefaultSampler'), num_workers=0, batch_size=1),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        experiment_name=f'mistyped_{next(iter(fields))}',
    )
    for field, value in fields.items():
        cfg[field] = cfg[field] | value if field == 'train_dataloader' else value
    with pytest.raises(TypeError) as caught:
        Runner(**cfg).train()
    assert bad_input_message(caught.value) == f'{message}: correct its name in the config'


def test_a_missing_module():
    with pytest.raises(ImportError) as caught:
        import no_such_module  # noqa: F401
    assert bad_input_message(caught.value) == "No module named 'no_such_module': install it, or correct the name"


@pytest.mark.parametrize('has_log', [True, False])
def test_the_stack_trace_of_an_unexpected_error_is_kept(tmp_path, monkeypatch, capsys, has_log):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MMLogger, '_instance_dict', type(MMLogger._instance_dict)())
    if has_log:
        MMLogger.get_instance('run', log_file=str(tmp_path / 'run.log'))
    path = tmp_path / ('run.log' if has_log else 'mmzeg_error.log')

    @one_line_errors
    def main():
        raise AttributeError('of\nmmzeg')

    with pytest.raises(SystemExit) as caught:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1
    assert line == f'mmzeg: error: unexpected AttributeError: of mmzeg; the stack trace is in {path}'
    assert 'Traceback' in path.read_text() and "raise AttributeError('of\\nmmzeg')" in path.read_text()
