"""One-pass scorers: only what lies under a mask counts, and a mask over the whole image gives CLIP's own embedding."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny_clips import write_clip

from mmzeg.models import CLIPDensePoolScorer, CLIPMaskScorer, Execution
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
MASK_SCORER_VISIONS = ('vit', 'vit-avg', 'vit-qk-norm', 'coca')
VOCABULARY = Vocabulary(['sky', 'car'])


def make_scorer(name, tmp_path, precision='auto', **fields):
    """Return the scorer that fits one of ``VISIONS``, with a CLIP of random weights."""
    config = dict(
        embed_dim=192 if name == 'siglip-like' else 48,
        text_cfg=TEXT,
        vision_cfg=VISIONS[name],
    )
    (tmp_path / f'one-pass-{name}.json').write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f'one-pass-{name}.json')
    torch.manual_seed(0)
    network = open_clip.create_model(f'one-pass-{name}').eval()
    path = tmp_path / f'{name}.safetensors'
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    clip = dict(
        type='mmzeg.CLIP',
        model=f'one-pass-{name}',
        pretrained=str(path),
        precision=precision,
        cache_dir=str(tmp_path / 'cache'),
    )
    cls = CLIPMaskScorer if name in MASK_SCORER_VISIONS else CLIPDensePoolScorer
    return cls(clip, 'single', **fields)


# A class token for each mask in all layers, CLIP's own unchanged (ODISE's MaskCLIP), at CLIP's own size.
ALL_LAYERS = dict(
    input_size=None,
    num_masked_layers=100,
    patches_see_class_token=True,
    mask_resize='area',
    empty_mask='best_cell',
    position_resize=dict(antialias=True),
)


@pytest.mark.parametrize('name', VISIONS)
def test_a_mask_over_the_whole_image_gives_clips_own_embedding(name, tmp_path):
    scorer = make_scorer(name, tmp_path, **(ALL_LAYERS if name in MASK_SCORER_VISIONS else {}))
    size = scorer.clip.image_size
    image = torch.rand(3, *size) * 255
    masks = torch.full((2, size[0] // 4, size[1] // 4), 9.0)
    masks[1, :, size[1] // 8 :] = -9.0
    embeddings = scorer.encode(image, masks, size)[0]
    expected = scorer.clip.encode_image(scorer.normalize(image, size)[None])[0]
    torch.testing.assert_close(embeddings[0], expected, atol=1e-4, rtol=1e-4)
    assert (embeddings[1] - expected).norm() > 0.02 * expected.norm()


@pytest.mark.parametrize('name', ['vit', 'coca', 'resnet', 'convnext'])
def test_input_sizes_padding_and_tiny_masks(name, tmp_path):
    scorer = make_scorer(name, tmp_path, input_size=[96, 160], mask_dilation=1)
    valid_size = (100, 150)
    image = torch.zeros(3, 128, 192)
    image[:, :100, :150] = torch.rand(3, 100, 150) * 255
    # A rectangle, one pixel, and an empty mask
    masks = torch.full((3, 32, 48), -9.0)
    masks[0, 2:20, 3:30] = 9.0
    masks[1, 9, 9] = 9.0
    logits = scorer(image, masks, VOCABULARY, valid_size)
    assert logits.shape == (3, 2) and torch.isfinite(logits).all()
    assert scorer.encode(image, masks, valid_size).shape[:2] == (2, 3)
    unpadded_logits = scorer(image[:, :100, :150], masks[:, :25, :38], VOCABULARY, valid_size)
    torch.testing.assert_close(logits, unpadded_logits, atol=1e-3, rtol=1e-3)
    batch_logits = scorer.score_segments([image] * 2, [masks, masks[:1]], VOCABULARY, [valid_size] * 2)
    torch.testing.assert_close(batch_logits[1], logits[:1])


@pytest.mark.parametrize('name', VISIONS)
def test_half_precision(name, tmp_path):
    """``auto`` is half precision on a GPU. This test uses bfloat16, which a CPU has too."""
    scorer = make_scorer(name, tmp_path)
    half_scorer = make_scorer(name, tmp_path, 'bf16')
    height, width = scorer.clip.image_size
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, height, width, generator=generator) * 255
    masks = torch.randn(4, height // 8, width // 8, generator=generator)
    embeddings = scorer.encode(image, masks, (height, width))[0]
    half_embeddings = half_scorer.encode(image, masks, (height, width))[0]
    assert half_embeddings.dtype == torch.float32 and not torch.equal(half_embeddings, embeddings)
    assert torch.cosine_similarity(half_embeddings, embeddings).min() > 0.999


def test_a_segment_does_not_depend_on_other_segments(tmp_path):
    scorer = make_scorer('vit', tmp_path)
    image = torch.rand(3, 64, 64) * 255
    masks = torch.randn(5, 16, 16)
    embeddings = scorer.encode(image, masks, (64, 64))[0]
    for query in range(5):
        expected = scorer.encode(image, masks[query : query + 1], (64, 64))[0, 0]
        torch.testing.assert_close(embeddings[query], expected)


DENSE = {
    'key-key': dict(last_attention='key-key', neighborhood_std=5.0),
    'query-query': dict(last_attention='query-query'),
}


@pytest.mark.parametrize('mode', ['tiled', 'batched'])
@pytest.mark.parametrize('name', [*VISIONS, *DENSE])
def test_a_batch_of_images_of_several_sizes(name, mode, tmp_path):
    """Inputs of one shape go through CLIP together if batched; each image has its own number of segments."""
    if name in DENSE:
        scorer = CLIPDensePoolScorer(write_clip(tmp_path, VIT), 'single', **DENSE[name])
    else:
        scorer = make_scorer(name, tmp_path)
    scorer.execution = Execution(mode)
    generator = torch.Generator().manual_seed(0)
    sizes = [(60, 90), (90, 60), (60, 90)]
    images = [torch.rand(3, *size, generator=generator) * 255 for size in sizes]
    masks = [torch.randn(count, 15, 15, generator=generator) for count in (3, 1, 5)]
    expected = [scorer.encode(*inputs) for inputs in zip(images, masks, sizes, strict=True)]
    encode_masks = scorer._encode_masks
    num_images = []

    def record(visual, images, on_grids):
        num_images.append(len(images))
        return encode_masks(visual, images, on_grids)

    scorer._encode_masks = record
    for embeddings, single in zip(scorer.encode_batch(images, masks, sizes), expected, strict=True):
        torch.testing.assert_close(embeddings, single, atol=1e-4, rtol=1e-4)
    # Some encoders, and IP-CLIP, squash all images to one shape.
    assert num_images == [1, 1, 1] if mode == 'tiled' else num_images in ([3], [2, 1])


def test_num_masked_layers(tmp_path):
    image = torch.rand(3, 64, 64) * 255
    masks = torch.full((1, 16, 16), -9.0)
    masks[0, 4:8, 4:8] = 9.0
    embeddings = {}
    for num_layers in (None, 1, 3, 9):
        scorer = make_scorer('vit', tmp_path, num_masked_layers=num_layers)
        embeddings[num_layers] = scorer.encode(image, masks, (64, 64))
    # Of three layers, a third is one.
    torch.testing.assert_close(embeddings[None], embeddings[1])
    torch.testing.assert_close(embeddings[9], embeddings[3])
    assert not torch.allclose(embeddings[1], embeddings[3], atol=1e-3)


@pytest.mark.parametrize(
    'name, cls, input_size, message',
    [
        ('resnet', CLIPMaskScorer, None, 'use type=.mmzeg.CLIPDensePoolScorer'),
        ('vit', CLIPDensePoolScorer, None, 'use type=.mmzeg.CLIPMaskScorer'),
        ('eva', CLIPDensePoolScorer, 448, 'set it to None'),
    ],
)
def test_an_unsupported_image_encoder_is_refused(name, cls, input_size, message, tmp_path):
    scorer = make_scorer(name, tmp_path)
    unsupported = cls.__new__(cls)
    fields = dict(num_masked_layers=None, last_attention=None, empty_mask='best_cell', input_sizes=[input_size])
    unsupported.__dict__ = scorer.__dict__ | fields
    with pytest.raises(ValueError, match=message):
        unsupported.encode(torch.rand(3, 64, 64), torch.randn(1, 16, 16), (64, 64))


@pytest.mark.parametrize(
    'fields', [dict(input_size=[]), dict(input_size=0), dict(mask_dilation=-1), dict(num_masked_layers=0)]
)
def test_bad_fields(fields, tmp_path):
    with pytest.raises(ValueError, match=f'scorer {next(iter(fields))}'):
        make_scorer('vit', tmp_path, **fields)


def test_a_pass_is_not_repeated_to_prune(tmp_path):
    with pytest.raises(ValueError, match='CLIPMaskScorer encodes the image in one pass .* set scorer pruning=None'):
        make_scorer('vit', tmp_path, pruning=dict(type='mmzeg.GuaranteedPruning'))
