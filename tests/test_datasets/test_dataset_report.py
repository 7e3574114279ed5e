"""The report of a dataset's files; tests/test_tools/test_check_dataset.py has reports of real files."""

import pytest
from mmengine.config import Config

from mmzeg.datasets.dataset_report import DatasetReport


def result(path, digest, **counts):
    labels = {int(label.removeprefix('class_')): pixels for label, pixels in counts.items()}
    return dict(path=path, digest=digest, converted=False, counts=labels, values=list(labels), problems=[])


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
    )


def test_converted_images_are_named_once():
    report = DatasetReport([], training=True)
    report.add_classes(['road'])
    for path in ('a.png', 'b.png'):
        report.add_sample(dict(result(path, path.encode(), class_0=5), converted=True))
    (warning,) = report.all_warnings()
    assert (
        warning.startswith('a.png: not 8 bits') and 'first of 2 such images' in warning and 'divided by 257' in warning
    )


def test_class_lists_of_joined_datasets():
    report = DatasetReport(['dog'], training=True)
    report.add_classes(['road', 'dog'])
    report.add_classes(['road'])
    leaked, different = report.problems
    assert leaked.startswith("1 unseen classes reach the loss, 'dog' first")
    assert different.startswith('joined datasets have different class lists')


def test_config_without_the_dataloader():
    with pytest.raises(ValueError, match='no val_dataloader'):
        DatasetReport.from_config(Config(dict()), 'val', num_workers=1)
