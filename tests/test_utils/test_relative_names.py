from types import SimpleNamespace

from mmengine.config import ConfigDict

from mmzeg.utils.relative_names import configured_image_folders, image_folders, relative_name


def test_names_below_folders():
    assert relative_name('data/images/seq0/a.b.jpg', ['data/images']) == 'seq0/a.b.jpg'
    assert relative_name('elsewhere/a.jpg', ['data/images']) == 'a.jpg'
    assert relative_name('world://0/160/0.3/images/train/000012.png', []) == '000012.png'
    assert relative_name('s3://bucket/images/seq0/a.jpg', ['s3://bucket/images']) == 'seq0/a.jpg'


def test_folders_of_datasets():
    prefixes = [dict(img_path=name) for name in ('one/images', 'two/images')]
    configs = [ConfigDict(data_root='data', data_prefix=prefix) for prefix in prefixes]
    folders = configured_image_folders([*configs, ConfigDict(type='mmzeg.WorldDataset')])
    assert folders == ['data/one/images', 'data/two/images']
    assert relative_name('data/two/images/a.jpg', folders) == 'two/images/a.jpg'
    datasets = [SimpleNamespace(data_prefix=prefix) for prefix in prefixes]
    joined = SimpleNamespace(datasets=datasets)
    assert image_folders(SimpleNamespace(dataset=joined)) == ['one/images', 'two/images']
    assert image_folders(SimpleNamespace(data_prefix=dict(img_path=''))) == []
