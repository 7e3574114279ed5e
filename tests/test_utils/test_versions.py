from importlib.metadata import PackageNotFoundError

import pytest

from mmzeg.utils import versions

OFFICIAL = {
    'torch': '2.1.2+cu121',
    'torchvision': '0.16.2',
    'numpy': '1.26.4',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmsegmentation': '1.2.2',
    'mmdet': '3.3.0',
    'scipy': '1.15.3',
    'open_clip_torch': '3.3.0',
}
ONEDL = OFFICIAL | {'torch': '2.8.0', 'torchvision': '0.23.0', 'numpy': '2.2.6'}
for old, new, number in (
    ('mmengine', 'onedl-mmengine', '0.10.12'),
    ('mmcv', 'onedl-mmcv', '2.3.6'),
    ('mmsegmentation', 'onedl-mmsegmentation', '1.4.2'),
    ('mmdet', 'onedl-mmdetection', '3.5.1'),
):
    del ONEDL[old]
    ONEDL[new] = number


def pretend_installed(monkeypatch, installed, ops=True):
    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(versions, 'version', version)
    monkeypatch.setattr(versions, 'find_spec', lambda name: object() if ops else None)


@pytest.mark.parametrize('stack', [OFFICIAL, ONEDL])
def test_both_stacks_pass(monkeypatch, stack):
    pretend_installed(monkeypatch, stack)
    versions.check_dependencies()


@pytest.mark.parametrize(
    'change, message',
    [
        ({'torch': '1.13.1'}, 'needs torch >= 2.1, but 1.13.1'),
        ({'mmcv': '2.2.0'}, r'needs mmcv >= 2.0.0, < 2.2.0, but 2.2.0 is installed: mim install'),
        ({'torchvision': '0.29.1'}, r'needs torchvision 0.16 for torch 2.1.2\+cu121, but 0.29.1'),
        (
            {'open_clip_torch': None},
            'needs open_clip_torch .* not installed: pip install open_clip_torch "torch==2.1.2" "torchvision==0.16.2"',
        ),
        ({'torch': None}, 'needs torch >= 2.1, but it is not installed'),
        ({'numpy': '2.2.6'}, r'needs numpy < 2 for torch 2.1.2\+cu121, but 2.2.6 is installed: pip install "numpy<2"'),
        ({'torchvision': None}, 'but none is installed'),
    ],
)
def test_problems_are_reported_in_one_line(monkeypatch, change, message):
    installed = {name: number for name, number in (OFFICIAL | change).items() if number}
    pretend_installed(monkeypatch, installed)
    with pytest.raises(ImportError, match=message) as error:
        versions.check_dependencies()
    assert '\n' not in str(error.value)


def test_mmcv_without_ops(monkeypatch):
    pretend_installed(monkeypatch, OFFICIAL, ops=False)
    with pytest.raises(ImportError, match='compiled ops'):
        versions.check_dependencies()
