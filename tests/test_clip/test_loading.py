"""Loading CLIP: weights that are refused, and names and shapes that are converted."""

import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmzeg.clip import CLIP, architecture, load_clip
from mmzeg.clip.architecture import openai_config
from mmzeg.clip.loading import model_config

FILE = Path(__file__).parents[1] / 'data' / 'golden' / 'r50_single' / 'clip_openai_format.safetensors'


def assert_refused(message, *args, error=ValueError):
    with pytest.raises(error) as caught:
        load_clip(*args)
    assert message in str(caught.value) and '\n' not in str(caught.value)


def test_no_such_tag_or_file():
    with pytest.raises(
        FileNotFoundError, match='gone.pt: no such file, nor an open_clip tag of ViT-B-16 .tags: openai'
    ):
        CLIP('gone.pt', model='ViT-B-16')
    with pytest.raises(ValueError, match="'ViT-B-17' is no open_clip architecture"):
        CLIP('openai', model='ViT-B-17')


def test_hub_out_of_reach(monkeypatch):
    def unreachable(config):
        raise RuntimeError('one\ntwo')

    monkeypatch.setattr(open_clip, 'download_pretrained', unreachable)
    assert_refused('ViT-B-16:openai is out of reach', 'ViT-B-16', 'openai', error=ConnectionError)


def test_openai_tag_has_quick_gelu_for_any_architecture_name():
    assert (
        model_config('ViT-B-16', 'openai')['quick_gelu'] and model_config('ViT-B-16-quickgelu', 'openai')['quick_gelu']
    )
    assert not model_config('ViT-B-16', 'laion2b_s34b_b88k').get('quick_gelu')


def test_not_clip(tmp_path):
    path = tmp_path / 'weights.pt'
    torch.save({'conv1.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}, path)
    assert_refused(f'{path}: no CLIP', None, str(path))
    assert_refused(f'{path}: not the weights of ViT-B-32', 'ViT-B-32', str(path))


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / 'run',)

    torch.save({'logit_scale': Evil()}, tmp_path / 'evil.pt')
    assert_refused('nothing of it was run', None, str(tmp_path / 'evil.pt'))
    assert not (tmp_path / 'run').exists()


def test_other_depth_is_refused(tmp_path):
    """Surplus weights are refused, as missing ones are."""
    text = dict(context_length=77, vocab_size=49408, width=32, heads=1, layers=2)
    for layers, message in ((1, 'none was expected'), (3, 'is missing')):
        config = dict(embed_dim=512, text_cfg=text)
        config['vision_cfg'] = dict(image_size=224, layers=layers, width=64, patch_size=32)
        (tmp_path / f'depth-{layers}.json').write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / f'depth-{layers}.json')
        assert_refused(f'not the weights of depth-{layers}: visual.transformer', f'depth-{layers}', str(FILE))
        with pytest.raises(ValueError, match=message):
            load_clip(f'depth-{layers}', str(FILE))


def test_architectures_with_other_heads_than_openai_s_must_be_named():
    with torch.device('meta'):
        config = open_clip.get_model_config('ViT-H-14')
        state = open_clip.CLIP(**config).state_dict()
    with pytest.raises(ValueError, match="no model of OpenAI; set model='ViT-H-14'"):
        openai_config(state, Path('h.safetensors'))


@pytest.mark.parametrize('name', ['ViT-B-16-quickgelu', 'ViT-L-14-336', 'RN50', 'RN50x4'])
def test_openai_architectures_are_read_from_their_shapes(name):
    config = open_clip.get_model_config(name)
    with torch.device('meta'):
        state = open_clip.CLIP(**config).state_dict()
        inferred = openai_config(state, Path('clip.pt'))
        rebuilt = open_clip.CLIP(**inferred)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert inferred['text_cfg'] == config['text_cfg'] and inferred['quick_gelu']


def test_openclip_training_checkpoint_and_one_element_scale(tmp_path):
    state = {f'module.{name}': tensor for name, tensor in load_file(FILE).items()}
    state['module.logit_scale'] = state['module.logit_scale'].reshape(1)
    torch.save(dict(epoch=3, name='run', state_dict=state), tmp_path / 'epoch_3.pt')
    images = torch.randn(1, 3, 224, 224)
    model = CLIP(str(tmp_path / 'epoch_3.pt'))
    assert torch.equal(model.encode_image(images), CLIP(str(FILE)).encode_image(images))


def test_nan_weights_are_refused(tmp_path):
    """CLIP's logits would be NaN, and every segment the first class."""
    state = load_file(FILE)
    save_file(state | {'text_projection': torch.full_like(state['text_projection'], torch.nan)}, tmp_path / 'nan.st')
    assert_refused('nan.st: text_projection is NaN', None, str(tmp_path / 'nan.st'))


def test_a_rewritten_file_is_loaded_again(tmp_path):
    path = tmp_path / 'clip.safetensors'
    state = load_file(FILE)
    save_file(state, path)
    first = CLIP(str(path), cache_dir=str(tmp_path / 'cache')).text_embeddings(['sky'], 'single')
    path.unlink()
    save_file(state | {'text_projection': state['text_projection'].flip(1)}, path)
    second = CLIP(str(path), cache_dir=str(tmp_path / 'cache')).text_embeddings(['sky'], 'single')
    torch.testing.assert_close(second, first.flip(1))


def test_an_assumed_quick_gelu_is_told_once(tmp_path, monkeypatch):
    """open_clip's and OpenAI's weights have the same names; OpenAI's archives hold three more values."""
    logged = []
    monkeypatch.setattr(architecture, 'print_log', lambda *arguments: logged.append(arguments))
    with torch.device('meta'):
        state = open_clip.CLIP(**open_clip.get_model_config('RN50')).state_dict()
    for _ in range(2):
        openai_config(state, tmp_path / 'unmarked.safetensors')
    openai_config(state | dict(input_resolution=torch.tensor(224)), tmp_path / 'openai.safetensors')
    ((message, logger, level),) = logged
    assert (logger, level) == ('current', logging.WARNING) and 'trained with QuickGELU' in message
    assert 'unmarked.safetensors' in message and 'set model to one of RN50, RN50-quickgelu' in message
