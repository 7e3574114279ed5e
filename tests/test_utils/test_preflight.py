"""Checkpoints and devices that are refused before any long work starts."""

import zipfile

import pytest
import torch
from mmengine.config import Config
from mmseg.utils import register_all_modules

from mmzeg.utils.preflight import check_config, check_device


@pytest.fixture(params=['truncated', 'empty', 'text', 'zip', 'list'])
def corrupted(request, tmp_path):
    path = tmp_path / 'corrupted.pth'
    torch.save(['no', 'weights'] if request.param == 'list' else dict(state_dict={}), path)
    if request.param == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('readme.txt', 'no weights')
    elif request.param != 'list':
        path.write_bytes({'truncated': path.read_bytes()[:-300], 'empty': b'', 'text': b'no weights'}[request.param])
    return path


def test_a_corrupted_checkpoint_is_named_before_anything_is_built(corrupted):
    with pytest.raises(ValueError, match='corrupted.pth: truncated or not a checkpoint; download it again$'):
        check_config(Config(dict(load_from=str(corrupted))), ())


def test_nan_weights_are_refused_before_anything_is_built(tmp_path):
    path = tmp_path / 'nan.pth'
    torch.save(dict(state_dict=dict(bias=torch.zeros(2), weight=torch.tensor([1.0, torch.nan]))), path)
    with pytest.raises(ValueError, match='nan.pth: weight is NaN'):
        check_config(Config(dict(load_from=str(path))), ())
    model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=str(path))))
    with pytest.raises(ValueError, match='nan.pth: weight is NaN'):
        check_config(Config(dict(model=model)), ('train_dataloader',))


@pytest.mark.parametrize('device', ['cpux', 'xpu', 'cuda:99'])
def test_a_missing_device(device):
    check_device('cpu')
    with pytest.raises(ValueError, match=f"device '{device}': .*; use device='cpu'$"):
        check_device(device)


@pytest.mark.parametrize('type_name', ['mmzeg.FolderDataset', 'BaseSegDataset', 'COCOStuffDataset'])
@pytest.mark.parametrize(
    'fields, name',
    [
        (dict(data_prefix=dict(img_dir='img', ann_dir='ann')), "data_prefix={'img_dir': 'img', 'ann_dir': 'ann'}"),
        (dict(img_dir='img', ann_dir='ann'), 'img_dir'),
        (dict(data_prefix=dict(image_path='.')), "data_prefix={'image_path': '.'}"),
    ],
)
def test_fields_of_folders_with_other_names(type_name, fields, name):
    """The error was "uri should not be None"."""
    register_all_modules(init_default_scope=False)
    cfg = Config(dict(val_dataloader=dict(dataset=dict(type=type_name, **fields))))
    with pytest.raises(ValueError) as raised:
        check_config(cfg, ['val_dataloader'])
    remedy = "the folders are named by data_prefix=dict(img_path='...', seg_map_path='...')"
    assert str(raised.value) == f'val_dataloader.dataset.{name}: {remedy}'
