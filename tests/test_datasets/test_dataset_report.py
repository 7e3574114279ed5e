"""The report of a dataset's files; tests/test_tools/test_check_dataset.py has reports of real files."""

import re

import pytest
from mmengine.config import Config

from mmzeg.datasets.dataset_report import DatasetReport


def result(path, digest, **counts):
    labels = {int(label.removeprefix('class_')): pixels for label, pixels in counts.items()}
    return dict(path=path, digest=digest, doubts=[], counts=labels, values=list(labels), problems=[])


def test_sums_duplicates_and_overlap():
    report = DatasetReport(['dog'], training=True)
    report.add_classes(['road', 'sky'])
    report.add_sample(result('a.jpg', b'a', class_0=5))
    report.add_sample(result('b.jpg', b'a', class_0=2))
    report.check_overlap(result('c.jpg', b'a'))
    report.check_overlap(result('d.jpg', b'd'))
    assert report.to_dict() == dict(
        classes=[
            dict(name='road', mark='seen', images=2, pixels=7),
            dict(name='sky', mark='seen', images=0, pixels=0),
        ],
        images=2,
        warnings=['b.jpg: the same file as a.jpg', "class 'sky' has no pixel"],
        wrong=['c.jpg: the same file as a.jpg, in training and in evaluation'],
        doubtful={},
    )


def test_doubtful_images_are_named_once_a_kind():
    report = DatasetReport([], training=True)
    report.add_classes(['road'])
    for path, doubts in (('a.png', ['converted']), ('b.png', ['converted', 'dark']), ('c.jpg', ['turned'])):
        report.add_sample(dict(result(path, path.encode(), class_0=5), doubts=doubts))
    converted, dark, turned = report.all_warnings()
    assert re.match('a.png: not 8 bits .* first of 2 such images: .* divided by 257', converted)
    assert re.match('b.png: grey of 16 bits without a value above 4095, the first of 1 such images', dark)
    assert re.match('c.jpg: its EXIF orientation mirrors or turns it', turned)
    assert report.to_dict()['doubtful'] == dict(converted=['a.png', 'b.png'], dark=['b.png'], turned=['c.jpg'])


def test_unseen_classes_in_training():
    report = DatasetReport(['dog'], training=True)
    report.add_classes(['road', 'dog'])
    assert report.problems == ["1 unseen classes reach the loss, 'dog' first: remove them"]


def test_config_without_the_dataloader():
    with pytest.raises(ValueError, match='no val_dataloader'):
        DatasetReport.from_config(Config(dict()), 'val', num_workers=1)
