"""Errors of a config, or of the options that change it, have one line."""

import pytest

from mmzeg.utils.config_files import read_config


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'custom.py'
    path.write_text("model = dict(type='A', blocks=[dict(size=1), dict(size=2)])")
    return path


def test_by_name_and_changed(path):
    assert read_config('zegformer_r18_world').model.type == 'mmzeg.ZegFormer'
    cfg = read_config(path, {'model.blocks.1.size': 3, 'new.field': 4})
    assert [block.size for block in cfg.model.blocks] == [1, 3] and cfg.new.field == 4
    with pytest.raises(FileNotFoundError, match='gone: no such config file, nor a name of one in configs'):
        read_config('gone')


def test_a_file_without_suffix_stands_for_its_name(tmp_path):
    """OpenMIM gives the path of such a file, which setup.py writes."""
    (tmp_path / 'zegformer_r18_world').touch()
    assert read_config(tmp_path / 'zegformer_r18_world').filename == read_config('zegformer_r18_world').filename


@pytest.mark.parametrize(
    'text, message',
    [
        ('model = dict(', r"SyntaxError: '\(' was never closed"),
        ('model = other', 'NameError'),
        ("_base_ = 'gone.py'", 'gone.py'),
        ("custom_imports = dict(imports=['gone'])", r"\['gone'\]\}; set PYTHONPATH to the folder of these modules$"),
    ],
)
def test_a_config_that_does_not_run(path, text, message):
    path.write_text(text)
    message = f'custom.py: it, or a config that it is based on, cannot be read: .*{message}'
    with pytest.raises(ValueError, match=message):
        read_config(path)


@pytest.mark.parametrize('key', ['model.type.depth', 'model.blocks.size', 'model.blocks.7.size', 'model.blocks.0'])
def test_options_that_name_no_field(path, key):
    with pytest.raises(ValueError, match=f'--cfg-options {key}: no such field in .*custom.py: correct the name$'):
        read_config(path, {'model.type': 'B', key: 1})
