"""A config's text is read as data: equal to the config that it prints, and never run."""

from pathlib import Path

import pytest

from mmzeg.publishing.config_text import MAX_TEXT_LENGTH, parse_config_text
from mmzeg.utils.config_files import read_config


@pytest.mark.parametrize('name', ['zegformer_r18_world', 'zegformer_r101_coco', 'per-pixel_r50_voc'])
def test_equals_the_config_that_is_printed(name):
    cfg = read_config(name)
    assert parse_config_text(cfg.pretty_text) == cfg.to_dict()


def test_kinds_of_values():
    text = "a = dict({'no name': (1, -2.5), 'b': [None, True]}, c='x')\nd = {'e': -1, 3: 'four'}\n"
    assert parse_config_text(text) == dict(
        a={'no name': (1, -2.5), 'b': [None, True], 'c': 'x'}, d={'e': -1, 3: 'four'}
    )


@pytest.mark.parametrize(
    'text, message',
    [
        ("import os\nos.system('touch harmed')", 'line 1 of the config is no plain data; nothing of it was run'),
        ("a = 1\nmodel = __import__('pathlib').Path('harmed').touch()", 'line 2 of the config is no plain data'),
        ("a = dict(**open('harmed', 'w'))", 'line 1'),
        ("a = dict(open('harmed', 'w'))", 'line 1'),
        ("a = dict(b=[open('harmed', 'w') for _ in '1'])", 'line 1'),
        ('a = f\'{open("harmed", "w")}\'', 'line 1'),
        ("open('harmed', 'w')", 'line 1'),
        ("a = {**open('harmed', 'w')}", 'line 1'),
        ('a.b = 1', 'line 1'),
        ("a = -'text'", 'line 1'),
        ('a = {[]: 1}', 'TypeError'),
        ('model = dict(', 'SyntaxError'),
        ('a = \0', 'the config is no text that MMEngine prints'),
        ('a = ' + '[' * 10**5, 'the config is no text that MMEngine prints'),
        ('a = ' + '-' * 10**5 + '1', 'the config is no text that MMEngine prints'),
        ('#' * (MAX_TEXT_LENGTH + 1), 'characters'),
        (b'a = 1', 'the config is no text'),
    ],
)
def test_other_texts_are_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        parse_config_text(text)
    assert '\n' not in str(error.value)
    assert not Path('harmed').exists()
