from pathlib import Path

import pytest

import mmzeg
from mmzeg.vocabulary import Vocabulary

SPLITS = Path(mmzeg.__file__).parent / 'datasets' / 'splits'


@pytest.mark.parametrize(
    'name, seen, unseen',
    [('coco_stuff_156_15', 156, 15), ('voc12_15_5', 15, 5), ('ade20k_full_572_275', 572, 275)],
)
def test_split_files(name, seen, unseen):
    vocabulary = Vocabulary(str(SPLITS / f'{name}.json'))
    assert (len(vocabulary.seen), len(vocabulary.unseen)) == (seen, unseen)
    assert vocabulary.training().names == vocabulary.seen


def test_text_file_and_synonyms(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('sky\nbuilding, house\n')
    vocabulary = Vocabulary(str(path), unseen=['sky'])
    assert vocabulary.synonyms('building, house') == ['building', 'house']
    assert vocabulary.seen_mask == [False, True]
    assert vocabulary.index('sky') == 0


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(classes=[]), 'empty'),
        (dict(classes=['a', 'b', 'a']), "'a' is listed twice"),
        (dict(classes=['a'], unseen=['b']), "'b' is listed in unseen"),
        (dict(classes=['a', '']), 'non-empty'),
    ],
)
def test_bad_lists(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(**arguments)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='names.txt'):
        Vocabulary('names.txt')


def test_both_seen_and_unseen(tmp_path):
    path = tmp_path / 'split.json'
    path.write_text('{"seen": ["a", "b"], "unseen": ["b"]}')
    with pytest.raises(ValueError, match="'b' is both seen and unseen"):
        Vocabulary(str(path))


def test_disagreement_names_the_class():
    vocabulary = Vocabulary(['a', 'b'], unseen=['b'])
    vocabulary.check_matches(['a', 'b'], 'the dataset', unseen=['b'])
    with pytest.raises(ValueError, match="class 1 is 'c' in the dataset"):
        vocabulary.check_matches(['a', 'c'], 'the dataset')
    with pytest.raises(ValueError, match="'b' is unseen in only one"):
        vocabulary.check_matches(['a', 'b'], 'the dataset', unseen=[])
