import json

import pytest

from mmzeg.class_names import parse_class_names, parse_classes_option, read_class_file, split_synonyms


def test_synonyms():
    assert split_synonyms('sofa, couch') == ['sofa', 'couch']
    assert split_synonyms('traffic light') == ['traffic light']


def test_typed_names():
    assert parse_class_names(' cat ,kitten ;; dog\n\n sofa ') == ['cat, kitten', 'dog', 'sofa']
    assert parse_class_names(' , ;\n') == []


def test_option_with_names_or_files(tmp_path):
    assert parse_classes_option(None, ['sky']) == dict(classes=None, seen=['sky'])
    assert parse_classes_option('cat, kitten; dog', None) == dict(classes=['cat, kitten', 'dog'], seen=None)
    (tmp_path / 'names.txt').write_text('sky\ncar\n')
    assert parse_classes_option(str(tmp_path / 'names.txt'), ['car']) == dict(classes=['sky', 'car'], seen=['car'])
    (tmp_path / 'split.json').write_text(json.dumps(dict(seen=['sky'], unseen=['car'])))
    assert parse_classes_option(str(tmp_path / 'split.json'), None) == dict(classes=['sky', 'car'], seen=['sky'])
    assert parse_classes_option(str(tmp_path / 'split.json'), [])['seen'] == []


@pytest.mark.parametrize(
    'option, message',
    [
        ('cat, dog', "is one class with synonyms: put ';' between classes"),
        ('cat; cat', "'cat' is listed twice in classes"),
        (' ; ', 'the vocabulary is empty: list at least one class name'),
    ],
)
def test_bad_options(option, message):
    with pytest.raises(ValueError, match=message):
        parse_classes_option(option, None)
    with pytest.raises(FileNotFoundError, match='gone.txt: no such file of class names'):
        parse_classes_option('gone.txt', None)


def test_files(tmp_path):
    (tmp_path / 'names.txt').write_text('sky\n\nbuilding, house\n')
    assert read_class_file(tmp_path / 'names.txt') == (('sky', 'building, house'), None)
    (tmp_path / 'split.json').write_text(json.dumps(dict(seen=['sky'], unseen=['car'])))
    assert read_class_file(tmp_path / 'split.json') == (('sky', 'car'), ('car',))
