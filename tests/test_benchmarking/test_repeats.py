"""Rows of repeated measurements."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from mmzeg.benchmarking.repeats import Measurement, measure_interleaved, time_cells


@dataclass
class Case:
    label: str
    measurement: Measurement = field(default_factory=Measurement)


def add(measurement, seconds, mib):
    measurement.add(SimpleNamespace(seconds=dict(CLIP=seconds / 4, map=3 * seconds / 4)), SimpleNamespace(mib=mib))


def test_a_row_has_median_range_and_highest_peak():
    measurement = Measurement()
    for seconds, mib in ((4.0, 10.0), (2.0, 30.0), (8.0, 20.0)):
        add(measurement, seconds, mib)
    assert measurement.row() == dict(seconds=4.0, fastest=2.0, slowest=8.0, mib=30.0)
    assert measurement.stage_seconds('CLIP') == 1.0 and measurement.stage_seconds('pruning') == 0.0
    assert time_cells(measurement.row()) == ['4.00', '2.00-8.00']


def test_speedup_is_the_median_of_the_ratios_within_rounds():
    baseline, faster = Measurement(), Measurement()
    for base, seconds in ((6.0, 1.0), (6.0, 2.0), (6.0, 6.0)):
        add(baseline, base, 0.0)
        add(faster, seconds, 0.0)
    assert faster.speedup_over(baseline) == 3.0 and baseline.speedup_over(baseline) == 1.0


def test_warming_up_does_not_count(capsys):
    cases = [Case('a'), Case('b')]
    labels = []

    def measure(case):
        labels.append(case.label)
        add(case.measurement, float(len(labels)), 0.0)

    measure_interleaved(cases, measure, repeats=2)
    assert labels == ['b', 'a', 'a', 'b', 'b', 'a']
    assert [case.measurement.seconds for case in cases] == [pytest.approx([3.0, 6.0]), pytest.approx([4.0, 5.0])]
    assert capsys.readouterr().err.splitlines()[-1] == '2/2 a ...'
