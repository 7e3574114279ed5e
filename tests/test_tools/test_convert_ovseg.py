"""OVSeg's released checkpoint, with made-up weights under its names, becomes a CLIP with mask prompts."""

from pathlib import Path

import open_clip
import pytest
import torch
from harmful import Harmful
from python_runs import run_python

from mmzeg.models import CLIPMaskPromptScorer

ROOT = Path(__file__).parents[2]
PREFIX = 'clip_adapter.clip_model.'
# Of ViT-L/14, whose 24 and 12 layers are fewer here.
WIDTH, TEXT_WIDTH, EMBED_DIM, NUM_PATCHES = 1024, 768, 768, 256
NUM_LAYERS, NUM_TEXT_LAYERS, VOCAB_SIZE = 3, 1, 64


def convert(*arguments, cwd=None):
    command = [str(ROOT / 'tools/model_converters/ovseg.py'), *map(str, arguments)]
    return run_python(command, cwd)


@pytest.fixture
def released():
    """A state dict with the released names and widths, float16, and some weights of the segmentation model."""
    torch.manual_seed(0)
    config = dict(
        embed_dim=EMBED_DIM,
        quick_gelu=True,
        vision_cfg=dict(layers=NUM_LAYERS, width=WIDTH, patch_size=14, image_size=224),
        text_cfg=dict(context_length=77, vocab_size=VOCAB_SIZE, width=TEXT_WIDTH, heads=12, layers=NUM_TEXT_LAYERS),
    )
    state = open_clip.CLIP(**config).state_dict()
    state['visual.mask_embedding'] = torch.randn(3, NUM_PATCHES, WIDTH)
    state = {PREFIX + name: tensor.half() for name, tensor in state.items()}
    return state | {
        'clip_adapter.non_object_embedding': torch.randn(1, EMBED_DIM),
        'backbone.patch_embed.proj.weight': torch.randn(8, 3, 4, 4),
        'sem_seg_head.predictor.query_embed.weight': torch.randn(100, 8),
    }


def test_at_full_width(released, tmp_path, caplog):
    source, target = tmp_path / 'ovseg.pth', tmp_path / 'ovseg_clip.pth'
    torch.save(dict(model=released, iteration=5), source)
    result = convert(source, target)
    assert result.returncode == 0, result.stderr
    assert 'mask prompts of depth 3 for 256 patches of width 1024' in result.stdout
    scorer = CLIPMaskPromptScorer(dict(type='mmzeg.CLIP', pretrained=str(target)))
    image = torch.rand(3, 60, 80) * 255
    masks = torch.full((2, 30, 40), -9.0)
    masks[0, 5:20, 5:30] = 9.0
    embeddings = scorer.encode(image, masks, (60, 80))
    assert embeddings.shape == (1, 2, EMBED_DIM) and embeddings[0, 0].any() and not embeddings[0, 1].any()
    assert 'QuickGELU' not in caplog.text
    # The weights are the released ones.
    network = scorer.clip.network
    for name in ('visual.proj', 'token_embedding.weight', 'visual.transformer.resblocks.2.attn.in_proj_weight'):
        assert torch.equal(network.state_dict()[name], released[PREFIX + name].float())
    prompts = released[f'{PREFIX}visual.mask_embedding'].float()
    assert torch.equal(scorer._prompts_for(network.visual, torch.device('cpu')), prompts)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda state: state.pop(f'{PREFIX}visual.mask_embedding'), 'no mask prompts in it'),
        (lambda state: state.pop(f'{PREFIX}visual.proj'), 'no CLIP of OVSeg in it'),
    ],
)
def test_other_checkpoints_are_refused(released, tmp_path, change, message):
    change(released)
    torch.save(dict(model=released), tmp_path / 'model.pth')
    result = convert(tmp_path / 'model.pth', tmp_path / 'converted.pth')
    assert result.returncode == 2 and message in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'converted.pth').exists()


def test_no_pickled_code_is_run(tmp_path):
    torch.save(dict(model={f'{PREFIX}visual.proj': Harmful()}), tmp_path / 'model.pth')
    result = convert(tmp_path / 'model.pth', tmp_path / 'converted.pth', cwd=tmp_path)
    assert result.returncode == 2 and 'nothing of it was run' in result.stderr
    assert not (tmp_path / 'harmed').exists()
