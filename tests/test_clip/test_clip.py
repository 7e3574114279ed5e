"""mmzeg.CLIP on the golden cases' tiny CLIP: embeddings, sharing, caching, precision."""

import copy
import json
import threading
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from mmzeg.clip import CLIP, clip, load_clip

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
FILE = str(GOLDEN / 'r50_single' / 'clip_openai_format.safetensors')


@pytest.fixture(autouse=True)
def no_loaded_clip(tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(clip, '_LOADED', {})


@pytest.mark.parametrize('case', ['r50_single', 'r50_batch2'])
def test_golden_text_embeddings(case):
    expected = load_file(GOLDEN / case / 'tensors.safetensors')
    settings = json.loads((GOLDEN / case / 'case.json').read_text())
    model = CLIP(str(GOLDEN / case / 'clip_openai_format.safetensors'))
    for key, names, prompts in (
        ('text_embed_seen', settings['seen_names'], settings['prompt']),
        ('text_embed_all', settings['order'], settings['prompt']),
        ('text_embed_all_clip', settings['order'], 'imagenet_select_clip'),
    ):
        assert (model.text_embeddings(names, prompts) - expected[key]).abs().max() < 1e-5, key


def test_image_encoder_equals_a_plain_vision_transformer():
    """Compare with CLIP's paper written out: pre-norm blocks, QuickGELU, class token, projection."""
    w = {name: tensor.float() for name, tensor in load_file(FILE).items()}
    images = torch.randn(2, 3, 224, 224)
    norm = torch.nn.functional.layer_norm
    x = torch.nn.functional.conv2d(images, w['visual.conv1.weight'], stride=32).flatten(2).transpose(1, 2)
    x = torch.cat([w['visual.class_embedding'].expand(2, 1, -1), x], 1) + w['visual.positional_embedding']
    x = norm(x, (64,), w['visual.ln_pre.weight'], w['visual.ln_pre.bias'])
    for block in range(2):
        b = {k.split('.', 4)[4]: v for k, v in w.items() if k.startswith(f'visual.transformer.resblocks.{block}.')}
        y = norm(x, (64,), b['ln_1.weight'], b['ln_1.bias'])
        q, k, v = (y @ b['attn.in_proj_weight'].t() + b['attn.in_proj_bias']).chunk(3, -1)
        y = (q @ k.transpose(1, 2) / 64**0.5).softmax(-1) @ v
        x = x + y @ b['attn.out_proj.weight'].t() + b['attn.out_proj.bias']
        y = norm(x, (64,), b['ln_2.weight'], b['ln_2.bias']) @ b['mlp.c_fc.weight'].t() + b['mlp.c_fc.bias']
        x = x + (y * (1.702 * y).sigmoid()) @ b['mlp.c_proj.weight'].t() + b['mlp.c_proj.bias']
    expected = norm(x[:, 0], (64,), w['visual.ln_post.weight'], w['visual.ln_post.bias']) @ w['visual.proj']
    torch.testing.assert_close(CLIP(FILE).encode_image(images), expected, atol=1e-4, rtol=1e-4)


def test_sizes_and_statistics_are_known_before_loading():
    model = CLIP(FILE)
    assert (model.embed_dim, model.image_size, model.context_length) == (512, (224, 224), 77)
    assert model.image_mean == open_clip.OPENAI_DATASET_MEAN and model.image_std == open_clip.OPENAI_DATASET_STD
    siglip = CLIP('webli', model='ViT-B-16-SigLIP-384')
    assert siglip.image_size == (384, 384) and siglip.image_mean == (0.5, 0.5, 0.5) and siglip.context_length == 64
    assert not model.is_loaded and not siglip.is_loaded
    assert model.logit_scale == pytest.approx(100, rel=1e-3) and model.logit_bias is None and model.is_loaded


def test_frozen_and_shared_by_copies_and_threads(monkeypatch):
    loads = []
    monkeypatch.setattr(clip, 'load_clip', lambda *args: loads.append(1) or load_clip(*args))
    users = [CLIP(FILE), CLIP(FILE), copy.deepcopy(CLIP(FILE))]
    images = torch.randn(1, 3, 224, 224)
    threads = [threading.Thread(target=user.encode_image, args=(images,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and all(user.network is users[0].network for user in users)
    assert not users[0].network.training
    assert not any(parameter.requires_grad for parameter in users[0].network.parameters())
    assert not users[0].encode_image(images.requires_grad_()).requires_grad


def test_a_cache_hit_loads_nothing():
    first = CLIP(FILE).text_embeddings(['sky', 'building, house'], 'single')
    clip._LOADED.clear()
    second = CLIP(FILE)
    assert torch.equal(second.text_embeddings(['sky', 'building, house'], 'single'), first) and not second.is_loaded


def test_key_changes_with_weights_templates_names_and_type(tmp_path):
    folder = tmp_path / 'cached'
    other = str(GOLDEN / 'r50_batch2' / 'clip_openai_format.safetensors')
    cases = [(FILE, 'fp32', ['a', 'b'], 'single'), (other, 'fp32', ['a', 'b'], 'single')]
    cases += [(FILE, 'bf16', ['a', 'b'], 'single'), (FILE, 'fp32', ['b', 'a'], 'single'), (FILE, 'fp32', ['a'], ['{}'])]
    for path, precision, names, prompts in cases:
        CLIP(path, precision=precision, cache_dir=str(folder)).text_embeddings(names, prompts)
    assert len(list(folder.iterdir())) == len(cases)
    CLIP(FILE, precision='auto', cache_dir=str(folder)).text_embeddings(['a', 'b'], 'single')
    assert len(list(folder.iterdir())) == len(cases)


def test_loading_late_changes_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    CLIP(FILE).text_embeddings(['sky'], 'single')
    assert torch.equal(torch.rand(3), expected)


def test_embeddings_made_in_inference_mode_serve_training():
    with torch.inference_mode(), torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings = CLIP(FILE).text_embeddings(['sky'], 'single')
    weight = torch.nn.Parameter(torch.ones(512))
    (embeddings * weight).sum().backward()
    assert torch.equal(weight.grad, embeddings[0])
    assert torch.equal(CLIP(FILE, cache_dir=None).text_embeddings(['sky'], 'single'), embeddings)


def test_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr('mmzeg.clip.text_cache.print_log', lambda text, *_: messages.append(text))
    (tmp_path / 'file').touch()
    for name in ('sky', 'car'):
        CLIP(FILE, cache_dir=str(tmp_path / 'file')).text_embeddings([name], 'single')
    assert len(messages) == 1 and 'MMZEG_CACHE' in messages[0]


def test_corrupted_cache_file_is_written_again(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr('mmzeg.clip.text_cache.print_log', lambda text, *_: messages.append(text))
    first = CLIP(FILE, cache_dir=str(tmp_path)).text_embeddings(['sky'], 'single')
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for corrupted in (content[:-7], content[:20], b'', content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(corrupted)
        assert torch.equal(CLIP(FILE, cache_dir=str(tmp_path)).text_embeddings(['sky'], 'single'), first)
        assert path.read_bytes() == content
    assert len(messages) == 4 and list(tmp_path.iterdir()) == [path]


def test_half_precision_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        CLIP(FILE, precision='fp16').text_embeddings(['sky'], 'single')
