"""CLIPCropScorer equals the reference scorer, encodes equal masks once, and shares chunks between images."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmzeg.benchmarking.reference_scorer import ReferenceScorer
from mmzeg.models import CLIPCropScorer, execution
from mmzeg.models.scorers import clip_crop_scorer
from mmzeg.models.scorers.crops import mask_boxes
from mmzeg.vocabulary import Vocabulary

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)
VOCABULARY = Vocabulary(['sky', 'road', 'car'])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Use an empty folder as the cache of text embeddings."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))


@pytest.fixture
def segments():
    """Return an image, the mask logits of two rectangles and an empty mask, and the image's size."""
    torch.manual_seed(0)
    masks = torch.full((3, 16, 24), -9.0)
    masks[0, 4:10, 5:20] = 9.0
    masks[1, 2:14, 2:9] = 9.0
    return torch.rand(3, 64, 96) * 255, masks, (64, 96)


@pytest.mark.parametrize('crop_mode, mask_dilation', [('crop', 0), ('cropmask', 0), (['cropmask', 'crop'], 1)])
def test_logits_equal_the_reference(crop_mode, mask_dilation):
    """Blobs, noise that leaks, a line, a vanishing mask and empty masks, on a padded image."""
    generator = torch.Generator().manual_seed(0)
    image = F.interpolate(255 * torch.rand(1, 3, 16, 24, generator=generator), size=(128, 192))[0]
    masks = torch.randn(12, 32, 48, generator=generator) - 5
    for query in range(6):
        masks[query, 3 * query : 5 * query + 6, 4 * query : 5 * query + 9] += 8
    masks[6] += 6
    masks[7, 20, 10:40] = 3.0
    masks[8, 5, 5] = 0.5
    masks[9:] = -2.0
    vocabulary = Vocabulary(['sky', 'road', 'car', 'tree, bush'])
    scorer = CLIPCropScorer(CLIP, 'single', crop_mode=crop_mode, mask_dilation=mask_dilation)
    logits = scorer(image, masks, vocabulary, (120, 190))
    expected = ReferenceScorer(scorer)(image, masks, vocabulary, (120, 190))
    assert len(expected[:9].unique(dim=0)) == 9
    torch.testing.assert_close(logits[9:], logits[9].expand(3, -1))
    # Logits are CLIP's scale, 100, times the cosine.
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_no_segments(segments):
    image, masks, size = segments
    scorer = CLIPCropScorer(CLIP, 'single', crop_mode=['cropmask', 'crop'])
    assert scorer.encode(image, masks[:0], size).shape == (2, 0, scorer.clip.embed_dim)
    none, some = scorer.score_segments([image, image], [masks[:0], masks], VOCABULARY, [size] * 2)
    assert none.shape == (0, 3)
    torch.testing.assert_close(some, scorer(image, masks, VOCABULARY, size))


def test_crop_modes_are_averaged(segments):
    image, masks, size = segments
    scorer = CLIPCropScorer(CLIP, 'single', crop_mode=['crop', 'cropmask'])
    embeddings = [
        CLIPCropScorer(CLIP, 'single', crop_mode=crop_mode).encode(image, masks, size)[0]
        for crop_mode in scorer.crop_modes
    ]
    torch.testing.assert_close(scorer.encode(image, masks, size), torch.stack(embeddings))
    mean = F.normalize(sum(F.normalize(embedding, dim=-1) for embedding in embeddings) / 2, dim=-1)
    text = scorer.clip.text_embeddings(VOCABULARY.names, 'single')
    torch.testing.assert_close(scorer(image, masks, VOCABULARY, size), scorer.clip.logit_scale * mean @ text.t())


def test_the_chunk_size_changes_no_logit(segments, monkeypatch):
    image, masks, size = segments
    scorer = CLIPCropScorer(CLIP, 'single')
    logits = scorer(image, masks, VOCABULARY, size)
    monkeypatch.setattr(execution, 'TILED_CROPS', 2)
    num_crops = count_crops(scorer, monkeypatch)
    torch.testing.assert_close(scorer(image, masks, VOCABULARY, size), logits)
    assert num_crops == [2, 1]


def count_crops(scorer, monkeypatch):
    """Return a list to which every pass of CLIP's image encoder appends its number of crops."""
    num_crops = []
    encode_image = scorer.clip.encode_image

    def encode_and_count(crops):
        num_crops.append(len(crops))
        return encode_image(crops)

    monkeypatch.setattr(scorer.clip, 'encode_image', encode_and_count)
    return num_crops


def test_images_share_chunks(segments, monkeypatch):
    image, masks, size = segments
    monkeypatch.setattr(execution, 'TILED_CROPS', 3)
    scorer = CLIPCropScorer(CLIP, 'single')
    images = [image, image.flip(2)]
    batch_masks = [masks, torch.cat([masks[:2], masks[:1].flip(2)])]
    expected = [
        scorer(single_image, image_masks, VOCABULARY, size)
        for single_image, image_masks in zip(images, batch_masks, strict=True)
    ]
    num_crops = count_crops(scorer, monkeypatch)
    logits = scorer.score_segments(images, batch_masks, VOCABULARY, [size] * 2)
    torch.testing.assert_close(logits, expected)
    assert num_crops == [3, 3]


@pytest.mark.parametrize('crop_mode', ['crop', 'mask', 'cropmask'])
@pytest.mark.parametrize('empty_queries', [[], [0], [1, 4], [0, 1, 2, 3, 4]])
def test_empty_masks_are_encoded_once(monkeypatch, crop_mode, empty_queries):
    torch.manual_seed(0)
    image = torch.rand(3, 64, 96) * 255
    masks = torch.full((5, 16, 24), -9.0)
    for query in set(range(5)) - set(empty_queries):
        masks[query, query : query + 6, 2 * query : 2 * query + 9] = 9.0
    scorer = CLIPCropScorer(CLIP, 'single', crop_mode=crop_mode)
    monkeypatch.setattr(execution, 'TILED_CROPS', 2)
    expected = torch.cat([scorer.encode(image, mask[None], (64, 96)) for mask in masks], 1)
    num_crops = count_crops(scorer, monkeypatch)
    torch.testing.assert_close(scorer.encode(image, masks, (64, 96)), expected)
    assert sum(num_crops) == 5 - max(0, len(empty_queries) - 1)


def test_masks_are_dilated_before_they_are_cropped(segments, monkeypatch):
    image, masks, size = segments
    cropped_masks = []

    def record_masks(image, masks, size, crop_mode, is_batched):
        cropped_masks.append(masks > 0.5)
        return image.expand(len(masks), -1, -1, -1)

    monkeypatch.setattr(clip_crop_scorer, 'crop_segments', record_masks)
    for mask_dilation in (0, 2):
        scorer = CLIPCropScorer(CLIP, 'single', mask_dilation=mask_dilation)
        monkeypatch.setattr(scorer.clip, 'encode_image', lambda images: images.flatten(1)[:, :4])
        scorer.encode(image, masks, size)
    boxes, dilated_boxes = (mask_boxes(binary_masks)[:2] for binary_masks in cropped_masks)
    assert (dilated_boxes - boxes).tolist() == [[-2, -2, 2, 2]] * 2
    assert not cropped_masks[1][2].any()


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(crop_mode='mascrop'), "'mascrop' is unknown"),
        (dict(crop_mode=['crop', 'box']), "'box' is unknown"),
        (dict(crop_mode=[]), 'crop_mode is an empty list'),
        (dict(mask_dilation=-1), 'mask_dilation must be'),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        CLIPCropScorer(CLIP, **fields)
