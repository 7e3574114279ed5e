"""One-pass scorers: what lies under a mask decides, and a mask over everything gives CLIP's own embedding."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mmzeg.models import CLIPDensePoolScorer, CLIPMaskScorer
from mmzeg.vocabulary import Vocabulary

TEXT = dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)
VIT = dict(image_size=64, layers=3, width=64, patch_size=16)
TIMM = dict(timm_pool='avg', timm_proj='linear')
VISIONS = {
    'vit': VIT,
    'vit-avg': dict(VIT, pool_type='avg', final_ln_after_pool=True),
    'vit-qk-norm': dict(VIT, block_type='custom', qk_norm=True),
    'coca': dict(VIT, attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=4),
    'resnet': dict(image_size=96, layers=[1, 1, 1, 1], width=16),
    'convnext': dict(TIMM, image_size=96, timm_model_name='convnext_atto'),
    'siglip-like': dict(image_size=224, timm_model_name='vit_tiny_patch16_224', timm_pool='map', timm_proj='none'),
    'eva': dict(TIMM, image_size=224, timm_model_name='eva02_tiny_patch14_224'),
}
MASKED = ('vit', 'vit-avg', 'vit-qk-norm', 'coca')


def scorer_of(name, tmp_path, precision='auto', **fields):
    vision = VISIONS[name]
    config = dict(embed_dim=192 if name == 'siglip-like' else 48, text_cfg=TEXT, vision_cfg=vision)
    (tmp_path / f'one-pass-{name}.json').write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f'one-pass-{name}.json')
    torch.manual_seed(0)
    network = open_clip.create_model(f'one-pass-{name}').eval()
    path = tmp_path / f'{name}.safetensors'
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    clip = dict(type='mmzeg.CLIP', model=f'one-pass-{name}', pretrained=str(path), cache_dir=str(tmp_path / 'cache'))
    clip['precision'] = precision
    return (CLIPMaskScorer if name in MASKED else CLIPDensePoolScorer)(clip, 'single', **fields)


@pytest.mark.parametrize('name', VISIONS)
def test_a_mask_over_everything_gives_clips_own_embedding(name, tmp_path):
    scorer = scorer_of(name, tmp_path)
    size = scorer.clip.image_size
    image = torch.rand(3, *size) * 255
    masks = torch.full((2, size[0] // 4, size[1] // 4), 9.0)
    masks[1, :, size[1] // 8 :] = -9.0
    found = scorer.encode(image, masks, size)[0]
    want = scorer.clip.encode_image(scorer.normalize(image, size)[None])[0]
    torch.testing.assert_close(found[0], want, atol=1e-4, rtol=1e-4)
    assert (found[1] - want).norm() > 0.02 * want.norm()


@pytest.mark.parametrize('name', ['vit', 'coca', 'resnet', 'convnext'])
def test_any_size_padding_and_tiny_masks(name, tmp_path):
    scorer = scorer_of(name, tmp_path, input_size=[96, 160], context=1)
    image, masks = torch.zeros(3, 128, 192), torch.full((3, 32, 48), -9.0)
    valid = (100, 150)
    image[:, :100, :150] = torch.rand(3, 100, 150) * 255
    masks[0, 2:20, 3:30], masks[1, 9, 9] = 9.0, 9.0  # the last one is empty
    found = scorer(image, masks, Vocabulary(['sky', 'car']), valid)
    assert found.shape == (3, 2) and torch.isfinite(found).all()
    assert scorer.encode(image, masks, valid).shape[:2] == (2, 3)
    unpadded = scorer(image[:, :100, :150], masks[:, :25, :38], Vocabulary(['sky', 'car']), valid)
    torch.testing.assert_close(found, unpadded, atol=1e-3, rtol=1e-3)
    batch = scorer.batch([image] * 2, [masks, masks[:1]], Vocabulary(['sky', 'car']), [valid] * 2)
    torch.testing.assert_close(batch[1], found[:1])


@pytest.mark.parametrize('name', VISIONS)
def test_half_precision(name, tmp_path):
    """What every GPU gets of `auto`; in bfloat16, which a CPU has too."""
    scorer, rounded = (scorer_of(name, tmp_path, precision) for precision in ('auto', 'bf16'))
    height, width = scorer.clip.image_size
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, height, width, generator=generator) * 255
    masks = torch.randn(4, height // 8, width // 8, generator=generator)
    want, found = (each.embed(image, masks, (height, width))[0] for each in (scorer, rounded))
    assert found.dtype == torch.float32 and not torch.equal(found, want)
    assert torch.cosine_similarity(found, want).min() > 0.999


def test_no_patch_sees_a_token_and_no_token_another(tmp_path):
    scorer = scorer_of('vit', tmp_path)
    image, masks = torch.rand(3, 64, 64) * 255, torch.randn(5, 16, 16)
    together = scorer.encode(image, masks, (64, 64))[0]
    for query in range(5):
        torch.testing.assert_close(together[query], scorer.encode(image, masks[query : query + 1], (64, 64))[0, 0])


def test_tokens_in_the_last_layers_alone(tmp_path):
    image, masks = torch.rand(3, 64, 64) * 255, torch.full((1, 16, 16), -9.0)
    masks[0, 4:8, 4:8] = 9.0
    found = {layers: scorer_of('vit', tmp_path, layers=layers).embed(image, masks, (64, 64)) for layers in (None, 1, 3)}
    torch.testing.assert_close(found[None], found[3])
    assert not torch.allclose(found[1], found[3], atol=1e-3)


@pytest.mark.parametrize(
    'name, kind, fields, message',
    [
        ('resnet', CLIPMaskScorer, {}, 'use type=.mmzeg.CLIPDensePoolScorer'),
        ('vit', CLIPDensePoolScorer, {}, 'use type=.mmzeg.CLIPMaskScorer'),
        ('eva', CLIPDensePoolScorer, dict(input_size=448), 'set it to None'),
    ],
)
def test_a_clip_of_another_kind_is_named(name, kind, fields, message, tmp_path):
    scorer = scorer_of(name, tmp_path)
    other = kind.__new__(kind)
    other.__dict__ = scorer.__dict__ | dict(layers=None)
    other.sizes = [fields.get('input_size')]
    with pytest.raises(ValueError, match=message):
        other.embed(torch.rand(3, 64, 64), torch.randn(1, 16, 16), (64, 64))


@pytest.mark.parametrize('fields', [dict(input_size=[]), dict(input_size=0), dict(context=-1), dict(layers=0)])
def test_bad_fields(fields, tmp_path):
    with pytest.raises(ValueError, match=f'scorer {next(iter(fields))}'):
        scorer_of('vit', tmp_path, **fields)
