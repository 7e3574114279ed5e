"""What differs between two tests."""

import json

import pytest

from mmzeg.evaluation.report_comparison import compare_reports, read_report


def make_report(lam, ious, **fields):
    classes = [dict(name=name, mark='seen', IoU=iou, Acc=iou) for name, iou in ious.items()]
    config = dict(model=dict(fusion=dict(lam=lam), layers=[dict(width=8), dict(width=16)], sizes=[1, 2]))
    return dict(metrics=dict(mIoU=50.0, hIoU=None), classes=classes, config=config, config_hash=str(lam)) | fields


def test_differing_settings_and_the_classes_that_changed_most():
    first = make_report(0.5, dict(sky=10.0, dog=20.0, cat=None, sea=5.0))
    second = make_report(0.8, dict(sky=11.0, dog=10.0, cat=3.0, sun=5.0))
    text = compare_reports(first, second, num_classes=1)
    settings, metrics, classes = text.split('change')
    assert 'config.model.fusion.lam | 0.5 | 0.8' in settings and 'config_hash' not in settings
    assert 'mIoU | 50.00 | 50.00 |  +0.00' in metrics and 'hIoU' not in metrics
    assert 'dog' in classes and '-10.00' in classes and 'sky' not in classes and 'cat' not in classes
    assert text.splitlines()[-1] == 'in only one of the two: sea, sun'


def test_equal_reports():
    report = make_report(0.5, dict(sky=10.0))
    assert compare_reports(report, report, 10).startswith('the same config, checkpoint, CLIP and packages')


def test_lists_of_fields_are_compared_field_by_field():
    other = make_report(0.5, dict(sky=10.0))
    other['config']['model']['layers'][1]['width'] = 32
    other['config']['model']['sizes'] = [1, 3]
    text = compare_reports(make_report(0.5, dict(sky=10.0)), other, 10)
    assert 'config.model.layers[1].width | 16' in text and 'config.model.sizes           | [1, 2]' in text


@pytest.mark.parametrize('content', ['', '[]', '{"metrics": {}}'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / 'report.json').write_text(content)
    with pytest.raises(ValueError, match='report.json: not a report of tools/test.py'):
        read_report(tmp_path / 'report.json')
    (tmp_path / 'good.json').write_text(json.dumps(make_report(0.5, {})))
    assert read_report(tmp_path / 'good.json')['metrics']['mIoU'] == 50
