"""Scorers with published settings: fields, edge cases, and configs/_base_/scorers.

tests/test_parity/test_successor_cases.py compares them with the released code.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from smooth_masks import smooth_mask_logits
from tiny_clips import CONVNEXT, RESNET, VIT, write_clip

from mmzeg.benchmarking.kernel_counts import KernelCounter
from mmzeg.clip import clip
from mmzeg.models import CLIPDensePoolScorer, CLIPMaskPromptScorer, CLIPMaskScorer, ScoreFusion
from mmzeg.models.scorers import build_scorer
from mmzeg.vocabulary import Vocabulary

SCORERS = sorted((Path(__file__).parents[2] / 'configs/_base_/scorers').glob('*.py'))
VISIONS = dict(fc_clip_convnext=CONVNEXT, fc_clip_resnet=RESNET)
VOCABULARY = Vocabulary(['sky', 'car', 'tree'], unseen=['tree'])
SEEN = torch.tensor([True, True, False])


def random_image(height, width):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture
def make_scorer(tmp_path, monkeypatch):
    """Return a function that builds the scorer of a file in configs/_base_/scorers, with fields changed."""
    # Frees the CLIPs after each test.
    monkeypatch.setattr(clip, '_LOADED', {})

    def make(name, vision=None, **fields):
        clip_config = write_clip(tmp_path / name, vision or VISIONS.get(name, VIT))
        config = Config.fromfile(SCORERS[0].with_name(f'{name}.py')).scorer
        if name == 'mask_prompts':
            prompts = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
            config.mask_prompts = str(tmp_path / 'mask_prompts.pth')
            torch.save(dict(mask_embedding=prompts), config.mask_prompts)
        return build_scorer(dict(config, clip=clip_config, prompts='single') | fields)

    return make


@pytest.mark.parametrize('path', SCORERS, ids=lambda path: path.stem)
def test_base_configs_with_padding_and_a_batch(path, make_scorer):
    """A rectangle, one pixel, an empty mask and the complete image; the padding and other images change nothing."""
    scorer = make_scorer(path.stem)
    image = torch.zeros(3, 128, 192)
    image[:, :96, :160] = random_image(96, 160)
    masks = torch.full((4, 32, 48), -9.0)
    masks[0, 2:20, 3:30] = 9.0
    masks[1, 9, 9] = 9.0
    masks[3] = 9.0
    embeddings = scorer.encode(image, masks, (96, 160))
    assert embeddings.shape == (1, 4, 48) and torch.isfinite(embeddings).all()
    logits = scorer.classify(embeddings, VOCABULARY)
    assert logits.shape == (4, 3) and torch.isfinite(logits).all()
    # Rectangle and complete image differ.
    assert torch.cosine_similarity(embeddings[0, 0], embeddings[0, 3], dim=0) < 0.9999
    unpadded = scorer.encode(image[:, :96, :160], masks[:, :24, :40], (96, 160))
    torch.testing.assert_close(unpadded, embeddings, atol=1e-4, rtol=1e-3)
    batch = scorer.encode_batch([image, image.flip(2)], [masks, masks[:1]], [(96, 160), (128, 192)])
    torch.testing.assert_close(batch[0], embeddings, atol=1e-5, rtol=1e-4)
    assert batch[1].shape == (1, 1, 48)


@pytest.mark.parametrize('path', SCORERS, ids=lambda path: path.stem)
def test_no_mask_at_all(path, make_scorer):
    scorer = make_scorer(path.stem)
    embeddings = scorer.encode(random_image(64, 64), torch.zeros(0, 16, 16), (64, 64))
    assert embeddings.shape == (1, 0, 48) and scorer.classify(embeddings, VOCABULARY).shape == (0, 3)


@pytest.mark.parametrize('path', SCORERS, ids=lambda path: path.stem)
def test_base_configs_in_an_experiment(path, tmp_path):
    """As docs/en/scorers.md says: a second base config, whose scorer gets a CLIP."""
    base = SCORERS[0].parents[2]
    config = f"""
_base_ = ['{base / 'zegformer_r101_coco.py'}', '{path}']
model = dict(scorer=dict(_delete_=True, clip=_base_.clip, **_base_.scorer))
"""
    if 'fusion' in Config.fromfile(path):
        config += "model['fusion'] = dict(_delete_=True, **_base_.fusion)\n"
    (tmp_path / 'config.py').write_text(config)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.model.scorer == dict(cfg.scorer, clip=cfg.clip) and cfg.model.scorer.clip.model == 'ViT-B-16-quickgelu'
    assert isinstance(cfg.scorer.get('input_size'), tuple) == (path.stem == 'ip_clip')
    fusion = ScoreFusion(**cfg.model.fusion)
    assert fusion.mode == ('geometric' if path.stem.startswith('fc_clip') else 'full')


def test_ip_clip_is_the_default(make_scorer):
    published = make_scorer('ip_clip')
    default = CLIPMaskScorer(dict(type='mmzeg.CLIP', pretrained=published.clip.pretrained))
    names = ('input_sizes', 'antialias', 'num_masked_layers', 'patches_see_class_token', 'mask_resize')
    names += ('position_resize', 'empty_mask', 'mask_dilation')
    assert {name: getattr(default, name) for name in names} == {name: getattr(published, name) for name in names}
    assert published.logit_scale == 100 and default.logit_scale is None


def test_empty_masks_of_ip_clip_see_their_own_token_alone(make_scorer):
    """They all have one embedding, which no patch of the masked layers changes."""
    masks = torch.full((3, 16, 16), -9.0)
    masks[2, 4:12, 4:12] = 9.0
    image = random_image(64, 64)
    scorer = make_scorer('ip_clip')
    embeddings = scorer.encode(image, masks, (64, 64))[0]
    torch.testing.assert_close(embeddings[0], embeddings[1])
    best_cell = make_scorer('ip_clip', empty_mask='best_cell').encode(image, masks, (64, 64))[0]
    torch.testing.assert_close(best_cell[2], embeddings[2])
    assert not torch.allclose(best_cell[0], embeddings[0], atol=1e-3)


def test_one_third_of_the_layers_is_masked(make_scorer):
    image, masks = random_image(64, 64), smooth_mask_logits(4, 16, 16)
    for num_layers, num_masked in ((1, 1), (3, 1), (6, 2), (4, 1)):
        vision = dict(VIT, layers=num_layers)
        default = make_scorer('ip_clip', vision, input_size=64).encode(image, masks, (64, 64))
        explicit = make_scorer('ip_clip', vision, input_size=64, num_masked_layers=num_masked)
        torch.testing.assert_close(default, explicit.encode(image, masks, (64, 64)))


@pytest.mark.parametrize('name, vision', [('ip_clip', VIT), ('fc_clip_convnext', CONVNEXT), ('fc_clip_resnet', RESNET)])
def test_input_sizes(name, vision, make_scorer):
    """A tuple is height and width, a number the shorter side, in complete cells; a list is all of its sizes."""
    scorer = make_scorer(name)
    image, masks = random_image(60, 100), smooth_mask_logits(3, 30, 50)
    shapes = []
    encode_masks = scorer._encode_masks

    def record(visual, images, on_grids):
        shapes.append(tuple(images.shape[-2:]))
        return encode_masks(visual, images, on_grids)

    scorer._encode_masks = record
    cell = 16 if vision is VIT else 32
    for size, expected in (
        ((96, 128), [(96, 128)]),
        (64, [(64, round(64 * 100 / 60 / cell) * cell)]),
        ('image', [(60, 100)]),
        ([64, (96, 64)], [(64, round(64 * 100 / 60 / cell) * cell), (96, 64)]),
    ):
        scorer.input_sizes = size if isinstance(size, list) else [size]
        shapes.clear()
        assert len(scorer.encode(image, masks, (60, 100))) == len(expected)
        assert shapes == expected


@pytest.mark.parametrize('name', ['ip_clip', 'last_layer', 'fc_clip_convnext', 'fc_clip_resnet', 'naclip'])
def test_kernels_do_not_grow_with_the_masks(name, make_scorer):
    """All masks are one pass, and the host never waits for a value."""
    scorer = make_scorer(name)
    image = random_image(64, 64)
    scorer.prepare(VOCABULARY, 'cpu')
    counts = []
    for num_masks in (2, 40):
        masks = smooth_mask_logits(num_masks, 16, 16)
        # Weights of the masks' resize are kept.
        scorer(image, masks, VOCABULARY, (64, 64))
        with KernelCounter(torch.device('cpu')) as counter:
            scorer(image, masks, VOCABULARY, (64, 64))
        assert counter.num_waits == 0, counter.wait_sites
        counts.append(counter.num_kernels)
    assert counts[0] == counts[1] < 300


def test_a_mask_without_cells_is_left_to_the_head(make_scorer):
    scorer = make_scorer('fc_clip_resnet')
    masks = torch.full((2, 64, 64), -9.0)
    masks[1, :40] = 9.0
    embeddings = scorer.encode(random_image(64, 64), masks, (64, 64))
    assert not embeddings[0, 0].any() and embeddings[0, 1].any()
    clip_logits = scorer.classify(embeddings, VOCABULARY)
    class_logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    seg_probs = class_logits.softmax(-1)[:, :-1]
    scores = ScoreFusion('geometric', ensemble_on_valid_mask=True)(class_logits, clip_logits, SEEN)
    torch.testing.assert_close(scores[0], seg_probs[0])
    assert not torch.allclose(scores[1], seg_probs[1], atol=1e-3)
    scores = ScoreFusion('geometric')(class_logits, clip_logits, SEEN)
    assert torch.isfinite(scores).all() and not torch.allclose(scores[0], seg_probs[0], atol=1e-3)


def test_zero_features_of_a_convnext(make_scorer):
    """FC-CLIP pools zeros under a mask without cells: the embedding does not depend on the image."""
    scorer = make_scorer('fc_clip_convnext')
    masks = torch.full((1, 64, 64), -9.0)
    embeddings = [scorer.encode(image, masks, (64, 64)) for image in (random_image(64, 64), torch.zeros(3, 64, 64))]
    assert embeddings[0].abs().max() < 1e-6 or torch.equal(*embeddings)
    assert torch.equal(*embeddings)


def test_dense_attention_follows_the_papers(make_scorer):
    """The last layer written out; NACLIP's window is exp(-d^2 / (2 std^2)) around each patch."""
    image = random_image(64, 96)
    masks = torch.full((2, 16, 24), -9.0)
    masks[0] = 9.0
    masks[1, :4, :8] = 9.0
    for name, std in (('naclip', 5.0), ('clear_clip', None)):
        scorer = make_scorer(name, input_size=64)
        visual = scorer.clip.network.visual
        normalized = scorer.normalize(image, (64, 96))[None]
        patches = visual.conv1(normalized).flatten(2).transpose(1, 2)
        grid = visual.positional_embedding[1:].t().view(1, -1, 4, 4)
        positions = F.interpolate(grid, size=(4, 6), mode='bicubic', align_corners=False)[0].flatten(1).t()
        x = torch.cat([visual.class_embedding[None, None], patches], 1)
        x = visual.ln_pre(x + torch.cat([visual.positional_embedding[:1], positions]))
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        layer = visual.transformer.resblocks[-1]
        weights, biases = layer.attn.in_proj_weight.chunk(3), layer.attn.in_proj_bias.chunk(3)
        query, key, value = (layer.ln_1(x)[0] @ w.t() + b for w, b in zip(weights, biases, strict=True))
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing='ij')
        coordinates = torch.stack([rows.flatten(), columns.flatten()], 1).float()
        attended = []
        for head in range(2):
            channels = slice(32 * head, 32 * head + 32)
            compared = (key if name == 'naclip' else query)[:, channels]
            logits = compared @ compared.t() / 32**0.5
            if std:
                logits[1:, 1:] += torch.exp(-(torch.cdist(coordinates, coordinates) ** 2) / (2 * std**2))
            attended.append(logits.softmax(-1) @ value[:, channels])
        dense = visual.ln_post(layer.attn.out_proj(torch.cat(attended, 1)))[1:] @ visual.proj
        embeddings = scorer.encode(image, masks, (64, 96))[0]
        torch.testing.assert_close(embeddings[0], dense.mean(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(embeddings[1], dense.view(4, 6, -1)[0, :2].mean(0), atol=1e-5, rtol=1e-4)


def test_prompts_do_not_count_in_a_mask_of_everything(make_scorer):
    """The crop is then the complete image, resized bicubically, as CLIP sees it."""
    scorer = make_scorer('mask_prompts')
    image = random_image(50, 70)
    masks = torch.full((2, 50, 70), 9.0)
    masks[1, :, 40:] = -9.0
    embeddings = scorer.encode(image, masks, (50, 70))[0]
    resized = F.interpolate(scorer.normalize(image, (50, 70))[None], size=(64, 64), mode='bicubic', align_corners=False)
    torch.testing.assert_close(embeddings[0], scorer.clip.encode_image(resized)[0], atol=1e-5, rtol=1e-4)
    # The crop of the second mask is all mask too.
    resized = F.interpolate(scorer.normalize(image, (50, 70))[None, ..., :40], size=(64, 64), mode='bicubic')
    torch.testing.assert_close(embeddings[1], scorer.clip.encode_image(resized)[0], atol=1e-5, rtol=1e-4)


def test_chunks_and_equal_masks_do_not_change_embeddings(make_scorer, monkeypatch):
    image, masks = random_image(64, 64), smooth_mask_logits(7, 64, 64)
    masks = torch.cat([masks, masks[2:4], torch.full((1, 64, 64), -3.0)])
    embeddings = []
    for size in (1, 4, 6):
        monkeypatch.setattr('mmzeg.models.execution.TILED_CROPS', size)
        embeddings.append(make_scorer('mask_prompts').encode(image, masks, (64, 64)))
    torch.testing.assert_close(embeddings[0], embeddings[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeddings[0], embeddings[2], atol=1e-5, rtol=1e-4)
    assert torch.equal(embeddings[0][0, 7:9], embeddings[0][0, 2:4]) and not embeddings[0][0, 9].any()


@pytest.mark.parametrize('shape', [(4, 16, 64), (2, 15, 64), (2, 16, 32)])
def test_prompts_of_another_depth_grid_or_width_are_refused(shape, make_scorer, tmp_path):
    torch.save({'visual.mask_embedding': torch.zeros(shape)}, tmp_path / 'other.pth')
    scorer = make_scorer('mask_prompts', mask_prompts=str(tmp_path / 'other.pth'))
    message = f'other.pth: mask prompts of depth {shape[0]} for {shape[1]} patches of width {shape[2]} do not fit'
    with pytest.raises(ValueError, match=message):
        scorer.prepare(VOCABULARY, 'cpu')


def test_a_file_without_prompts_is_named(make_scorer):
    scorer = make_scorer('mask_prompts', mask_prompts=None)
    with pytest.raises(ValueError, match='clip.safetensors: no mask prompts in it'):
        scorer.prepare(VOCABULARY, 'cpu')
    with pytest.raises(ValueError, match="scorer mask_prompts is None, and CLIP's weights 'openai' are no file"):
        CLIPMaskPromptScorer(dict(type='mmzeg.CLIP', model='ViT-B-16-quickgelu', pretrained='openai'))


@pytest.mark.parametrize(
    'name, vision, fields, message',
    [
        ('ip_clip', RESNET, {}, "not ModifiedResNet: use type='mmzeg.CLIPDensePoolScorer'"),
        ('ip_clip', CONVNEXT, {}, "not TimmModel: use type='mmzeg.CLIPDensePoolScorer'"),
        ('mask_prompts', RESNET, {}, "not ModifiedResNet: use type='mmzeg.CLIPCropScorer'"),
        ('fc_clip_convnext', VIT, {}, "last_attention='key-key' or 'query-query': set it, or use type='mmzeg.CLIPMask"),
        ('fc_clip_resnet', RESNET, dict(empty_mask='zero_features'), 'undefined for a ResNet'),
    ],
)
def test_an_unsupported_image_encoder_is_refused_before_the_first_image(name, vision, fields, message, make_scorer):
    with pytest.raises(ValueError) as error:
        make_scorer(name, vision, **fields).prepare(VOCABULARY, 'cpu')
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'cls, fields, message',
    [
        (CLIPMaskScorer, dict(input_size=(480, 0)), 'input_size'),
        (CLIPMaskScorer, dict(input_size=(1, 2, 3)), 'input_size'),
        (CLIPMaskScorer, dict(input_size='large'), 'input_size'),
        (CLIPMaskScorer, dict(mask_resize='nearest'), "mask_resize 'nearest' is unknown"),
        (CLIPMaskScorer, dict(empty_mask='zero_features'), "empty_mask 'zero_features' is unknown: use one of class_"),
        (CLIPMaskScorer, dict(position_resize=dict(mode='area')), "position_resize has mode='area'"),
        (CLIPMaskScorer, dict(logit_scale=0), 'logit_scale must be above 0'),
        (CLIPDensePoolScorer, dict(attn_pool_query='token'), "attn_pool_query 'token' is unknown"),
        (CLIPDensePoolScorer, dict(last_attention='value-value'), "last_attention 'value-value' is unknown"),
        (CLIPDensePoolScorer, dict(neighborhood_std=0), 'neighborhood_std must be above 0'),
    ],
)
def test_bad_fields(cls, fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cls(write_clip(tmp_path, VIT), **fields)


@pytest.mark.parametrize('name', ['ip_clip', 'mask_prompts', 'fc_clip_convnext', 'fc_clip_resnet', 'naclip'])
def test_half_precision(name, make_scorer):
    image, masks = random_image(64, 64), smooth_mask_logits(3, 16, 16)
    scorer = make_scorer(name)
    embeddings = scorer.encode(image, masks, (64, 64))
    half_clip = dict(type='mmzeg.CLIP', pretrained=scorer.clip.pretrained, precision='bf16')
    half = make_scorer(name, clip=half_clip).encode(image, masks, (64, 64))
    assert half.dtype == torch.float32 and not torch.equal(half, embeddings)
    assert torch.cosine_similarity(half, embeddings, dim=-1).min() > 0.99
