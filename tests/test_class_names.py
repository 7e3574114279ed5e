import json
from pathlib import Path

import pytest

from mmzeg.class_names import (
    check_class_names,
    parse_class_names,
    parse_classes_option,
    read_class_file,
    split_synonyms,
)
from mmzeg.vocabulary import Vocabulary


def test_synonyms():
    assert split_synonyms('sofa, couch') == ['sofa', 'couch']
    assert split_synonyms('traffic light') == ['traffic light']


def test_typed_names():
    assert parse_class_names(' cat ,kitten ;; dog\n\n sofa ') == ['cat, kitten', 'dog', 'sofa']
    assert parse_class_names(' , ;\n') == []


def test_a_comma_separates_synonyms_however_names_come_in(tmp_path):
    """ "car,cars" was two synonyms when typed, and one phrase, another class, from a file or Python."""
    (tmp_path / 'names.txt').write_text('car,cars\nsky\n')
    (tmp_path / 'split.json').write_text(json.dumps(dict(seen=['car,cars'], unseen=['sky'])))
    expected = ('car, cars', 'sky')
    assert tuple(parse_class_names('car,cars; sky')) == expected
    assert read_class_file(tmp_path / 'names.txt')[0] == read_class_file(tmp_path / 'split.json')[0] == expected
    assert Vocabulary(['car,cars', 'sky']) == Vocabulary(expected) and split_synonyms('car,cars') == ['car', 'cars']
    Vocabulary(expected, unseen=['car, cars']).check_matches(['car,cars', 'sky'], 'a dataset', unseen=['car,cars'])
    with pytest.raises(ValueError, match="'car, cars' is listed twice"):
        check_class_names(['car, cars', 'car,cars'], 'classes')


def test_names_of_published_lists_stay():
    for path in (Path(__file__).parents[1] / 'mmzeg/datasets/class_lists').glob('*.json'):
        names = json.loads(path.read_text())['names']
        assert check_class_names(names, path.name) == tuple(names)


def test_a_file_of_another_suffix_is_refused(tmp_path):
    """It became one class, called "names.csv"."""
    (tmp_path / 'names.csv').write_text('sky\ncar\n')
    with pytest.raises(ValueError, match=r'names.csv: a file of class names ends with .txt .* or .json'):
        parse_classes_option(str(tmp_path / 'names.csv'), None)
    assert parse_classes_option('St. Bernard', None)['classes'] == ['St. Bernard']


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
