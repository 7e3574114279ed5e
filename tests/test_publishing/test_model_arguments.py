"""A published model stands for config and checkpoint, wherever flags are among the arguments."""

import argparse

import pytest

from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments


def parse(line, last=None):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    if last is not None:
        parser.add_argument(last, nargs='+' if last == 'inputs' else None)
    parser.add_argument('--out')
    args = vars(parse_model_arguments(parser, line.split(), 'inputs' if last == 'inputs' else None))
    return {name: value for name, value in args.items() if value is not None}


@pytest.mark.parametrize(
    'line, expected',
    [
        ('c.py k.pth a b', dict(config='c.py', checkpoint='k.pth', inputs=['a', 'b'])),
        ('c.py k.pth --out x a', dict(config='c.py', checkpoint='k.pth', inputs=['a'], out='x')),
        ('--out x c k.safetensors a', dict(config='c', checkpoint='k.safetensors', inputs=['a'], out='x')),
        ('m.safetensors a', dict(config='m.safetensors', inputs=['a'])),
        ('m.safetensors a b c', dict(config='m.safetensors', inputs=['a', 'b', 'c'])),
        ('m.safetensors --out x a b', dict(config='m.safetensors', inputs=['a', 'b'], out='x')),
    ],
)
def test_inputs_follow(line, expected):
    assert parse(line, 'inputs') == expected


def test_one_input_or_none_follows():
    assert parse('m.safetensors a', 'image') == dict(config='m.safetensors', image='a')
    assert parse('c.py k.pth --out x a', 'image') == dict(config='c.py', checkpoint='k.pth', image='a', out='x')
    assert parse('m.safetensors') == dict(config='m.safetensors')
    assert parse('c.py k.pth') == dict(config='c.py', checkpoint='k.pth')


@pytest.mark.parametrize(
    'line, last, message',
    [
        ('c.py', None, 'required: checkpoint'),
        ('c.py a', 'inputs', 'required: checkpoint'),
        ('m.safetensors', 'inputs', 'required: inputs'),
        ('m.safetensors k.pth', None, 'm.safetensors holds its weights: leave out k.pth'),
        ('m.safetensors k.pth a', 'image', 'm.safetensors holds its weights: leave out k.pth'),
    ],
)
def test_what_is_missing_or_too_much(line, last, message, capsys):
    with pytest.raises(SystemExit):
        parse(line, last)
    assert message in capsys.readouterr().err
