"""Configs as published models have them: every config of mmzeg fits, and is the same after JSON."""

import json

import pytest
from hostile_files import changed, published_config

from mmzeg.apis import list_models
from mmzeg.publishing.config_check import check_published_config
from mmzeg.publishing.config_json import dump_config, load_config_json
from mmzeg.publishing.encoder_files import map_encoders, unpack_encoder
from mmzeg.publishing.publish import portable_config
from mmzeg.utils.config_files import CONFIGS, read_config


@pytest.mark.parametrize('name', list_models('proposals_*'))
def test_masks_of_other_models_and_files_cannot_be_published(name):
    config = portable_config(read_config(name).to_dict())
    with pytest.raises(ValueError, match=r"^model\.proposals\.type='mmzeg\.\w+Proposals' is refused"):
        check_published_config(config)


@pytest.mark.parametrize('name', sorted({*list_models()} - {*list_models('proposals_*')}))
def test_every_config_can_be_published(name):
    cfg = read_config(name)
    config = portable_config(cfg.to_dict())
    check_published_config(config)
    assert load_config_json(dump_config(config)) == config
    # No path of this machine, and no loader of a dataset's files.
    assert str(CONFIGS.parent) not in json.dumps(config) and 'Load' not in json.dumps(config['test_dataloader'])
    # Back to the config that was published, apart from fields that only a training needs.
    model = map_encoders(config['model'], lambda encoder: unpack_encoder(encoder, CONFIGS))
    assert model['decode_head']['classifier']['text_encoder'] == cfg.model.decode_head.classifier.text_encoder.to_dict()
    assert model['backbone'] == {key: value for key, value in cfg.model.backbone.to_dict().items() if key != 'init_cfg'}


def test_vocabularies_in_files_become_lists(tmp_path):
    (tmp_path / 'split.json').write_text('{"seen": ["car, auto"], "unseen": ["kite/flag"]}')
    fields = read_config('zegformer_r18_world').to_dict()
    classifier = fields['model']['decode_head']['classifier']
    classifier['vocabulary'] = dict(classes=str(tmp_path / 'split.json'), prompts=['A photo of a {}, http://x/y.'])
    classifier['train_vocabulary'] = ['car, auto']
    config = portable_config(fields)
    check_published_config(config)
    published = config['model']['decode_head']['classifier']
    assert published['vocabulary'] == dict(
        classes=['car, auto', 'kite/flag'], unseen=['kite/flag'], prompts=['A photo of a {}, http://x/y.']
    )
    assert published['train_vocabulary'] == dict(classes=['car, auto'], unseen=[])


def test_fields_of_the_training_are_left_out():
    fields = read_config('zegformer_r18_world').to_dict()
    fields['model']['auxiliary_head'] = dict(type='FCNHead')
    fields['model']['decode_head']['loss_cls']['class_weight'] = [1.0, 2.0]
    fields['model']['scorer']['clip']['cache_dir'] = 'a/b'
    assert portable_config(fields) == published_config()


def test_a_file_of_the_user_is_named_and_identified(tmp_path):
    """It is looked for next to the model, then by its path, and must have the same content."""
    source = CONFIGS / '_base_/models/world_clip'
    other, model = tmp_path / 'other', tmp_path / 'model'
    for folder in (other, model):
        folder.mkdir()
    for file in source.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    # Another model's file: its weights are not those of the config's folder.
    path = other / 'open_clip_model.safetensors'
    (other / 'open_clip_config.json').write_text((source / 'open_clip_config.json').read_text() + '\n')
    fields = changed(read_config('zegformer_r18_world').to_dict(), {'model.scorer.clip.pretrained': str(path)})
    clip = portable_config(fields)['model']['scorer']['clip']
    assert clip['pretrained']['file'] == str(path)
    assert unpack_encoder(clip, model)['pretrained'] == str(path)
    for file in other.iterdir():
        file.rename(model / file.name)
    assert unpack_encoder(clip, model)['pretrained'] == str(model / path.name)
    (model / 'open_clip_config.json').write_text('{}')
    with pytest.raises(
        ValueError, match=f'open_clip_model.safetensors has another content: put that file into {model}'
    ):
        unpack_encoder(clip, model)
    (model / path.name).unlink()
    with pytest.raises(ValueError, match='there is no such file: put that file into'):
        unpack_encoder(clip, model)


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(model={1: 2}), 'config.model: the key 1 is no text'),
        (dict(model=dict(type=dict)), 'config.model.type: a type is no plain data; give its registered name'),
        (dict(model=dict(scale=float('inf'))), 'JSON'),
    ],
)
def test_what_json_cannot_hold_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        dump_config(config)
