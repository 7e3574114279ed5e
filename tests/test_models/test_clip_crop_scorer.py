"""What check_parity cannot see of the scorer: its fields beyond the published ones."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmzeg.models import CLIPCropScorer
from mmzeg.models.scorers import clip_crop_scorer
from mmzeg.models.scorers.crops import mask_boxes
from mmzeg.vocabulary import Vocabulary

CLIP = dict(
    type='mmzeg.CLIP',
    pretrained=str(Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'),
)
NAMES = Vocabulary(['sky', 'road', 'car'])


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    torch.manual_seed(0)
    masks = torch.full((3, 16, 24), -9.0)
    masks[0, 4:10, 5:20], masks[1, 2:14, 2:9] = 9.0, 9.0
    return torch.rand(3, 64, 96) * 255, masks, (64, 96)


def test_several_styles_are_averaged(case):
    image, masks, size = case
    both = CLIPCropScorer(CLIP, 'single', style=['crop', 'cropmask'])
    parts = [CLIPCropScorer(CLIP, 'single', style=style).embed(image, masks, size)[0] for style in both.styles]
    torch.testing.assert_close(both.embed(image, masks, size), torch.stack(parts))
    mean = F.normalize(sum(F.normalize(part, dim=-1) for part in parts) / 2, dim=-1)
    text = both.clip.text_embeddings(NAMES.names, 'single')
    torch.testing.assert_close(both(image, masks, NAMES, size), both.clip.logit_scale * mean @ text.t())


def test_a_chunk_changes_nothing(case):
    image, masks, size = case
    torch.testing.assert_close(
        CLIPCropScorer(CLIP, 'single', chunk=2)(image, masks, NAMES, size),
        CLIPCropScorer(CLIP, 'single')(image, masks, NAMES, size),
    )


def test_pictures_share_passes_of_clip(case, monkeypatch):
    image, masks, size = case
    scorer = CLIPCropScorer(CLIP, 'single', chunk=3)
    images, parts = [image, image.flip(2)], [masks, torch.cat([masks[:2], masks[:1].flip(2)])]
    alone = [scorer(one, part, NAMES, size) for one, part in zip(images, parts, strict=True)]
    passes, encode = [], scorer.clip.encode_image
    monkeypatch.setattr(scorer.clip, 'encode_image', lambda images: passes.append(len(images)) or encode(images))
    together = scorer.batch(images, parts, NAMES, [size] * 2)
    torch.testing.assert_close(together, alone)
    assert passes == [3, 3]


def test_masks_are_grown_before_they_are_cut(case, monkeypatch):
    image, masks, size = case
    cut = []
    for grow in (0, 2):
        scorer = CLIPCropScorer(CLIP, 'single', grow=grow)
        monkeypatch.setattr(
            clip_crop_scorer,
            'crop_segments',
            lambda image, masks, size, style: cut.append(masks > 0.5) or image.expand(len(masks), -1, -1, -1),
        )
        monkeypatch.setattr(scorer.clip, 'encode_image', lambda images: images.flatten(1)[:, :4])
        scorer.encode(image, masks, size)
    plain, grown = (mask_boxes(part)[:2] for part in cut)
    assert (grown - plain).tolist() == [[-2, -2, 2, 2]] * 2
    assert not cut[1][2].any()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(style='mascrop'), "'mascrop' is unknown"),
        (dict(style=['crop', 'box']), "'box' is unknown"),
        (dict(style=[]), 'list of none'),
        (dict(grow=-1), 'grow must be'),
        (dict(chunk=0), 'chunk must be'),
    ],
)
def test_bad_fields(arguments, message):
    with pytest.raises(ValueError, match=message):
        CLIPCropScorer(CLIP, **arguments)
