import json
import pickle
import re
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

import mmzeg
from mmzeg.class_names import split_synonyms
from mmzeg.registry import TASK_UTILS
from mmzeg.vocabulary import Vocabulary

SPLITS = Path(mmzeg.__file__).parent / 'datasets' / 'splits'


@pytest.mark.parametrize(
    'name, seen, unseen',
    [('coco_stuff_156_15', 156, 15), ('voc12_15_5', 15, 5), ('ade20k_full_572_275', 572, 275)],
)
def test_split_files(name, seen, unseen):
    path = SPLITS / f'{name}.json'
    split = json.loads(path.read_text())
    vocabulary = Vocabulary(str(path))
    assert (len(vocabulary.seen), len(vocabulary.unseen), len(vocabulary)) == (seen, unseen, seen + unseen)
    assert vocabulary.names == (*split['seen'], *split['unseen'])
    assert vocabulary.training() == Vocabulary(split['seen'])
    assert vocabulary == Vocabulary(path) == Vocabulary.build(str(path))


def test_unseen_argument_overrides_the_split_file():
    vocabulary = Vocabulary(SPLITS / 'voc12_15_5.json', unseen=['aeroplane'])
    assert vocabulary.unseen == ('aeroplane',) and len(vocabulary.seen) == 19
    assert vocabulary.names[0] == 'aeroplane'


def test_text_file_and_synonyms(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('sky\r\n\nbuilding, house\n', encoding='utf-8-sig')
    vocabulary = Vocabulary(str(path), unseen=['sky'])
    assert vocabulary.names == ('sky', 'building, house')
    assert split_synonyms('building, house') == ['building', 'house'] and split_synonyms('sky') == ['sky']
    assert vocabulary.seen_mask == [False, True]
    assert vocabulary.index('sky') == 0 and not vocabulary.is_seen('sky') and vocabulary.is_seen('building, house')


def test_unseen_and_seen_are_in_the_order_of_the_names():
    vocabulary = Vocabulary(['a', 'b', 'c', 'd'], unseen=['d', 'b'])
    assert vocabulary.unseen == ('b', 'd') and vocabulary.seen == ('a', 'c')


def test_two_classes_may_have_the_same_synonym():
    assert len(Vocabulary(['rock, stone', 'wall, stone'])) == 2


def test_equality_hash_and_pickle():
    ours = Vocabulary(['a', 'b'], unseen=['b'], prompts=['a {}'])
    assert pickle.loads(pickle.dumps(ours)) == ours and hash(pickle.loads(pickle.dumps(ours))) == hash(ours)
    others = [
        Vocabulary(['b', 'a'], unseen=['b'], prompts=['a {}']),
        Vocabulary(['a', 'b'], prompts=['a {}']),
        Vocabulary(['a', 'b'], unseen=['b']),
    ]
    assert all(ours != other for other in others) and len({ours, *others}) == 4
    assert repr(ours) == 'Vocabulary(1 seen, 1 unseen)'


@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_build(kind):
    vocabulary = Vocabulary(['a', 'b'], unseen=['b'], prompts='single')
    fields = dict(classes=['a', 'b'], unseen=['b'], prompts='single')
    assert Vocabulary.build(vocabulary) is vocabulary
    assert Vocabulary.build(kind(fields)) == Vocabulary.build(kind(type='mmzeg.Vocabulary', **fields)) == vocabulary
    assert TASK_UTILS.build(kind(type='mmzeg.Vocabulary', **fields)) == vocabulary
    assert Vocabulary.build(['a', 'b']) == Vocabulary(['a', 'b'])


@pytest.mark.parametrize('config, message', [({}, 'no field classes'), (dict(classes=['a'], sen=[]), "'sen'")])
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.build(config)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(classes=[]), 'the vocabulary is empty'),
        (dict(classes=None), 'classes must be a list'),
        (dict(classes=['a', 'b', 'a']), "'a' is listed twice in classes"),
        (dict(classes=['a', 'b'], unseen=['b', 'b']), "'b' is listed twice in unseen"),
        (dict(classes=['a'], unseen=['b']), "'b' is listed in unseen but not among the classes"),
        (dict(classes=['a'], unseen='a'), 'unseen must be a list'),
        (dict(classes=['a'], unseen=[1]), 'unseen: a class name must be a non-empty string, got 1'),
        (dict(classes=['a', '']), "classes: a class name must be a non-empty string, got ''"),
        (dict(classes=['a', 3]), 'got 3'),
        (dict(classes=['a', ' b']), "class ' b' has an empty synonym or a blank at an end"),
        (dict(classes=['a, ']), "class 'a, ' has an empty synonym"),
        (dict(classes=['a, , b']), 'has an empty synonym'),
    ],
)
def test_bad_lists(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary(**arguments)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('split.json', b'{"seen": ["a", "b"], "unseen": ["b"]}', "'b' is both seen and unseen"),
        ('split.json', b'{"seen": ["a", "a"], "unseen": ["b"]}', "'a' is listed twice in .*seen"),
        ('split.json', b'{"seen": ["a", "b"', 'not a UTF-8 text or JSON file'),
        ('split.json', b'["a", "b"]', 'needs the lists "seen" and "unseen"'),
        ('split.json', b'{"seen": "ab", "unseen": []}', 'needs the lists "seen" and "unseen"'),
        ('split.json', b'{"seen": [], "unseen": []}', 'empty'),
        ('names.txt', b'\n', 'empty'),
        ('names.txt', b'sky\nsky\n', "'sky' is listed twice"),
        ('names.txt', b'\xff\xfe\xfa', 'not a UTF-8 text'),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary(str(path))
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='names.txt'):
        Vocabulary('names.txt')


def test_unknown_class():
    vocabulary = Vocabulary(['a', 'b'])
    for method in (vocabulary.index, vocabulary.is_seen):
        with pytest.raises(ValueError, match="'c' is not in the vocabulary of 2"):
            method('c')


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match='every class is unseen'):
        Vocabulary(['a'], unseen=['a']).training()


@pytest.mark.parametrize(
    'names, unseen, message',
    [
        (['a', 'c'], None, "class 1 is 'c' in the dataset but 'b' in the model"),
        (['b', 'a'], None, "class 0 is 'b' in the dataset"),
        (['a'], None, "class 1 is missing in the dataset but 'b' in the model"),
        (['a', 'b', 'c'], None, "class 2 is 'c' in the dataset but missing in the model"),
        (['a', 'b'], [], "'b' is unseen in only one"),
        (['a', 'b'], ['b', 'a'], "'a' is unseen in only one"),
    ],
)
def test_disagreement_names_the_class(names, unseen, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Vocabulary(['a', 'b'], unseen=['b']).check_matches(names, 'the dataset', unseen=unseen)


def test_equal_lists_agree():
    vocabulary = Vocabulary(['a', 'b'], unseen=['b'])
    vocabulary.check_matches(('a', 'b'), 'the dataset')
    vocabulary.check_matches(['a', 'b'], 'the dataset', unseen=['b'])
