"""Classes that are evaluated as if unseen."""

import pytest

from mmzeg.evaluation.held_out_classes import choose_held_out
from mmzeg.vocabulary import Vocabulary


@pytest.mark.parametrize(
    'option, count', [('2', 2), ('0.5', 3), ('a,sofa, couch', 2), ('e', 1), ('a,e', 2)], ids=lambda value: str(value)
)
def test_names_numbers_and_fractions(option, count):
    vocabulary = Vocabulary(['a', 'b', 'c', 'd', 'e', 'sofa, couch', 'f'], unseen=['e'])
    names = choose_held_out(vocabulary, option, seed=0)
    assert len(names) == count == len(set(names)) and names == [n for n in vocabulary.names if n in names]
    assert names == choose_held_out(vocabulary, option, seed=0)
    if option[0].isdigit():
        assert 'e' not in names
        assert len({tuple(choose_held_out(vocabulary, option, seed)) for seed in range(9)}) > 1
