"""Small models of all families of open_clip, from local files."""

import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmzeg.clip import CLIP
from mmzeg.clip.fast_encoders import encode_image, encode_text, reads_class_token, reads_end_of_text
from mmzeg.clip.loading import statistics

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'r50_single' / 'clip_openai_format.safetensors'
TEXT = dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)
VISIONS = {
    'small-vit': dict(vision_cfg=dict(image_size=48, layers=1, width=64, patch_size=16)),
    # The embedding is the class token; in average-vit it is not.
    'deep-vit': dict(vision_cfg=dict(image_size=48, layers=3, width=64, patch_size=16)),
    'average-vit': dict(vision_cfg=dict(image_size=48, layers=3, width=64, patch_size=16, pool_type='avg')),
    'small-resnet': dict(vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=16)),
    'small-convnext': dict(
        vision_cfg=dict(image_size=64, timm_model_name='convnext_atto', timm_pool='avg', timm_proj='linear')
    ),
    'small-eva': dict(
        vision_cfg=dict(image_size=224, timm_model_name='eva02_tiny_patch14_224', timm_pool='token', timm_proj='linear')
    ),
    # SigLIP's form under another name: for a 'siglip' open_clip needs a tokenizer that only the hub has.
    'small-bias': dict(
        init_logit_bias=-10,
        custom_text=True,
        vision_cfg=dict(image_size=224, timm_model_name='vit_tiny_patch16_224', timm_pool='map', timm_proj='none'),
    ),
}


@pytest.fixture
def family(request, tmp_path):
    name = request.param
    config = dict(embed_dim=192 if name == 'small-bias' else 48, text_cfg=TEXT) | VISIONS[name]
    (tmp_path / f'{name}.json').write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f'{name}.json')
    torch.manual_seed(0)
    return name, open_clip.create_model(name).eval()


@pytest.mark.parametrize('family', VISIONS, indirect=True)
@pytest.mark.parametrize('suffix', ['safetensors', 'pt'])
def test_family_from_a_local_file(family, suffix, tmp_path):
    name, network = family
    path = tmp_path / f'weights.{suffix}'
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(state, path) if suffix == 'safetensors' else torch.save(dict(state_dict=state), path)
    clip = CLIP(str(path), model=name, cache_dir=str(tmp_path / 'cache'))
    assert clip.embed_dim == network.text_projection.shape[1] if hasattr(network, 'text_projection') else True
    assert clip.context_length == 16 and not clip.is_loaded
    images = torch.randn(2, 3, *clip.image_size)
    torch.testing.assert_close(clip.encode_image(images), network.encode_image(images).detach())
    tokens = open_clip.get_tokenizer(name)(['a photo of a cat'])
    torch.testing.assert_close(clip.encode_text(['a photo of a cat']), network.encode_text(tokens).detach())
    assert reads_class_token(network.visual) == (name in ('small-vit', 'deep-vit'))
    assert (clip.logit_bias is not None) == (name == 'small-bias')
    assert clip.text_embeddings(['sky', 'car'], 'single').shape == (2, clip.embed_dim)
    assert not any(parameter.requires_grad for parameter in clip.network.parameters())
    assert CLIP(str(path), model=name).network is clip.network
    half = CLIP(str(path), model=name, precision='bf16')
    cosine = torch.nn.functional.cosine_similarity(half.encode_image(images), clip.encode_image(images))
    assert cosine.min() > 0.98 and half.logit_scale == clip.logit_scale


def test_class_token_with_layer_scale():
    torch.manual_seed(0)
    fields = dict(image_size=48, patch_size=16, width=64, layers=3, heads=4, mlp_ratio=4.0, output_dim=48)
    visual = open_clip.transformer.VisionTransformer(**fields, ls_init_value=0.3).eval()
    images = torch.randn(2, 3, 48, 48)
    assert reads_class_token(visual)
    torch.testing.assert_close(encode_image(SimpleNamespace(visual=visual), images), visual(images))


def test_texts_without_padding():
    """A text's embedding equals open_clip's, whatever the length of the other texts, even of a truncated one."""
    torch.manual_seed(0)
    network = open_clip.CLIP(48, dict(image_size=32, layers=1, width=64, patch_size=16), TEXT).eval()
    texts = ['cat', 'a photo of a very small zebra crossing', 'word ' * 30]
    tokens = open_clip.get_tokenizer('ViT-B-32', context_length=16)(texts)
    assert reads_end_of_text(network) and tokens[2, -1] == tokens[2].max()
    lengths = []
    hook = network.transformer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    for batch in (tokens, tokens[:2], tokens[:1]):
        torch.testing.assert_close(encode_text(network, batch), network.encode_text(batch))
    hook.remove()
    assert lengths[::2] == [16, 10, 3] and lengths[1::2] == [16] * 3
    network.text_pool_type = 'last'
    assert not reads_end_of_text(network)


def test_openai_archive_and_quick_gelu(tmp_path):
    """OpenAI's file format, a TorchScript archive: the same model as from safetensors, with QuickGELU."""

    class Holder(torch.nn.Module):
        pass

    root = Holder()
    for name, tensor in load_file(GOLDEN).items():
        *folders, last = name.split('.')
        module = root
        for folder in folders:
            if not hasattr(module, folder):
                module.add_module(folder, Holder())
            module = getattr(module, folder)
        module.register_parameter(last, torch.nn.Parameter(tensor))
    path = tmp_path / 'ViT.pt'
    torch.jit.script(root).save(str(path))
    archive, plain = CLIP(str(path)), CLIP(str(GOLDEN))
    images = torch.randn(2, 3, *plain.image_size)
    assert torch.equal(archive.encode_image(images), plain.encode_image(images))
    kinds = {type(module).__name__ for module in archive.network.modules()}
    assert 'QuickGELU' in kinds and 'GELU' not in kinds
    assert archive.image_mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def test_statistics_come_from_the_weights(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.touch()
    assert statistics('ViT-B-16-SigLIP', str(path))[0] == (0.5, 0.5, 0.5)
    assert statistics('ViT-B-16-SigLIP', 'webli')[1] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match='open_clip_config.json'):
        statistics('ViT-L-14', str(path))
    config = dict(preprocess_cfg=dict(mean=[0.1] * 3, std=[0.2] * 3))
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    assert statistics('ViT-L-14', str(path)) == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))


def test_hub_folder_names_its_model(tmp_path):
    """open_clip_config.json next to the weights: any architecture without its name; the config is part of the key."""
    vision = dict(image_size=32, timm_model_name='test_resnet', timm_pool='avg', timm_proj='linear')
    text = dict(context_length=8, vocab_size=49408, width=8, heads=1, layers=1)
    config = dict(embed_dim=8, vision_cfg=vision, text_cfg=text)
    network = open_clip.CLIP(**config).eval()
    path = tmp_path / 'open_clip_model.safetensors'
    sidecar = tmp_path / 'open_clip_config.json'
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    with pytest.raises(ValueError, match='set model'):
        CLIP(str(path)).image_size  # noqa: B018
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3)
    sidecar.write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))
    clip = CLIP(str(path))
    images = torch.randn(2, 3, 32, 32)
    assert clip.image_size == (32, 32) and clip.image_mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(clip.encode_image(images), network.encode_image(images))
    before = clip.fingerprint()
    sidecar.write_text(json.dumps(dict(model_cfg=config | dict(quick_gelu=True), preprocess_cfg=preprocess)))
    assert clip.fingerprint() != before


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"model_cfg": ', "needs an object 'model_cfg'"),
        ('[]', "needs an object 'model_cfg'"),
        ('{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "x"}}}', 'another tokenizer'),
        ('{"model_cfg": {"vision_cfg": {"timm_model_name": "hf-hub:a/b"}}}', 'timm_model_name names a hub'),
    ],
)
def test_bad_hub_config(tmp_path, content, message):
    path = tmp_path / 'open_clip_model.safetensors'
    path.write_bytes(GOLDEN.read_bytes())
    (tmp_path / 'open_clip_config.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        CLIP(str(path)).embed_dim  # noqa: B018


def test_half_and_bfloat_precision(tmp_path):
    images = torch.randn(2, 3, 224, 224)
    single = CLIP(str(GOLDEN), precision='fp32').encode_image(images)
    half = CLIP(str(GOLDEN), precision='bf16').encode_image(images)
    assert half.dtype == torch.float32 and torch.nn.functional.cosine_similarity(half, single).min() > 0.99
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(CLIP(str(GOLDEN), precision='fp32').encode_image(images), single)
