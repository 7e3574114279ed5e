"""Parts of the GPU report: a part that fails, what counts as a failure, and the file; the tool's test runs it all."""

import json
from dataclasses import replace

import pytest
import torch

from mmzeg.benchmarking.gpu_report import precision_part, report, training_part
from mmzeg.benchmarking.gpu_report.options import SMALL, ReportOptions
from mmzeg.benchmarking.gpu_report.parity_part import check_parity
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.benchmarking.gpu_report.training_part import TrainingCurve, measure_training
from mmzeg.benchmarking.kernel_trace import top_kernels

CPU = torch.device('cpu')


@pytest.fixture
def options(tmp_path):
    return ReportOptions('cpu', tmp_path)


def test_a_failed_step_does_not_stop_the_others(options, monkeypatch, tmp_path, capsys):
    def fails(options):
        section = Section('First')
        rows = section.add_table('Steps.')
        for number in (1, 2, 3):
            with section.step(f'step {number}'):
                speed = number / 3 if number < 3 else 12345.67
                rows.append(dict(step=number, speed=speed, is_odd=number % 2 == 1, nothing=None))
                if number == 2:
                    raise RuntimeError('out of memory\nmore lines')
        return section

    monkeypatch.setattr(report, 'PARTS', dict(first=fails, second=lambda options: Section('Second')))
    made = report.make_report(options, ['first', 'second'], tmp_path / 'report')
    assert made.problems == ['First: step 2: RuntimeError: out of memory']
    assert 'Traceback' in capsys.readouterr().err
    markdown = (tmp_path / 'report/gpu_report.md').read_text()
    assert 'Sizes are small' in markdown
    assert '- Failed: step 2' in markdown and '## Second' in markdown
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in markdown.splitlines()]
    assert ['3', '12346', 'yes', ''] in cells and ['2', '0.6667', 'no', ''] in cells
    content = json.loads((tmp_path / 'report/gpu_report.json').read_text())
    assert [section['title'] for section in content['sections']] == ['First', 'Second']
    assert content['sections'][0]['tables'][0]['rows'][2]['speed'] == 12345.67 and content['machine']['torch']


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device 'foo': there is no such device; use device='cpu'"):
        report.make_report(ReportOptions('foo', tmp_path), ['parity'], tmp_path / 'report')
    assert not (tmp_path / 'report').exists()


def test_no_golden_case_is_a_failure(options):
    (problem,) = check_parity(options).problems
    assert problem == f'{options.golden}: no golden case: give the folder as --golden'


def curve(*losses, **fields):
    return TrainingCurve([dict(loss=2 * loss, loss_cls=loss, loss_mask=loss) for loss in losses], **fields)


@pytest.mark.parametrize(
    'mixed, problem',
    [
        (curve(2.0, 1.01, 1.0), None),
        (curve(2.0, 1.0, 1.5), 'the last losses of both precisions differ by 50.0 %'),
        (TrainingCurve([dict(loss=2.0, loss_cls=2.0, loss_mask=0.0)] * 3), 'mixed: loss_mask is 0.0'),
        (curve(2.0, float('nan'), 1.0), 'mixed: a loss is not finite'),
    ],
)
def test_training_that_went_wrong_is_a_failure(options, monkeypatch, mixed, problem):
    curves = dict(float32=curve(2.0, 1.5, 1.0), mixed=mixed)
    monkeypatch.setattr(training_part, 'train', lambda config, precision, options: (curves[precision], []))
    section = measure_training(options)
    assert len(section.tables[0].rows) == 4
    if problem is None:
        assert not section.problems
    else:
        assert all(problem in line for line in section.problems) and len(section.problems) == 2


def test_labels_that_differ_are_a_failure(options, monkeypatch):
    def evaluate(model, cfg, setting, options):
        labels = torch.zeros(10, 10)
        scores = dict(seen_mIoU=40.0, unseen_mIoU=20.0, hIoU=26.7)
        if setting.network is not None:
            labels[0] = 1
            scores['hIoU'] -= 2
        return [labels], scores

    monkeypatch.setattr(precision_part, 'train_world_model', lambda cfg, options: object())
    monkeypatch.setattr(precision_part, 'evaluate', evaluate)
    sizes = replace(SMALL, min_agreement=95.0, max_score_difference=1.5)
    section = precision_part.compare_precisions(replace(options, sizes=sizes))
    assert [row['equal labels'] for row in section.tables[0].rows] == [100, 100, 90]
    assert section.problems == [
        'CLIP and network bfloat16: only 90.00 % of the labels are equal',
        'CLIP and network bfloat16: hIoU differs by 2.00 points',
    ]


def test_sizes_are_small_on_a_cpu_only(tmp_path):
    assert ReportOptions('cpu', tmp_path).sizes is SMALL
    assert ReportOptions('cuda', tmp_path).sizes.training_iterations == 60
    assert ReportOptions('cpu', tmp_path, replace(SMALL, repeats=2)).sizes.repeats == 2


def test_slowest_operations_of_a_call():
    matrix = torch.rand(400, 400)
    kernels = top_kernels(lambda: (matrix @ matrix).relu(), CPU, count=2)
    assert [row['kernel'] for row in kernels] == ['aten::mm', 'aten::clamp_min']
    assert kernels[0]['calls'] == 1 and kernels[0]['ms'] > kernels[1]['ms'] > 0
    assert 50 < kernels[0]['percent'] < 100
