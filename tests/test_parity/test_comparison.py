"""Tolerances of golden values, and what is not compared."""

import torch

from mmzeg.parity import Comparison


def rows(comparison):
    return {row[0]: row[-1] for row in comparison.table.rows}


def test_tensors_differ_relative_to_the_largest_magnitude():
    golden = torch.tensor([1000.0, 0.001])
    comparison = Comparison(dict(a=golden, b=golden, c=golden, d=golden, empty=torch.zeros(0, 3)))
    comparison.compare_tensor('a', golden + 0.9)
    comparison.compare_tensor('b', golden + 1.1)
    comparison.compare_tensor('c', golden * torch.nan)
    comparison.compare_tensor('d', golden[:1])
    comparison.compare_tensor('empty', torch.zeros(0, 3))
    assert rows(comparison) == {'a': 'yes', 'b': 'NO', 'c': 'NO', 'd (1,) for (2,)': 'NO', 'empty': 'yes'}
    assert comparison.num_failed == 3


def test_label_maps_may_differ_on_less_than_a_thousandth_of_the_pixels():
    golden = torch.zeros(10, 200)
    comparison = Comparison(dict(argmax_near=golden, argmax_far=golden))
    for name, count in (('argmax_near', 1), ('argmax_far', 3)):
        labels = golden.clone()
        labels[0, :count] = 1
        comparison.compare_tensor(name, labels)
    assert rows(comparison) == dict(argmax_near='yes', argmax_far='NO')


def test_losses():
    comparison = Comparison({})
    comparison.compare_loss('near', 2.0001, 2.0)
    comparison.compare_loss('far', 2.001, 2.0)
    assert rows(comparison) == dict(near='yes', far='NO')


def test_values_that_nothing_compares_fail():
    comparison = Comparison(dict(a=torch.ones(1), b=torch.ones(1)))
    comparison.compare_tensor('a', torch.ones(1))
    comparison.fail_not_compared()
    assert rows(comparison) == {'a': 'yes', 'b (not compared)': 'NO'} and comparison.num_failed == 1
