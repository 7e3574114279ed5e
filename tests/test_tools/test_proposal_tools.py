"""Masks of files and of mmseg's MaskFormer through the demo, the test, the diagnosis and the demo page's handlers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature_runs import CLIP, loaders, present, run
from miniatures import pascal_context
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image
from pycocotools import mask as coco_mask
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_session import Session
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/proposals_files.py'
MASKFORMER_CONFIG = ROOT / 'configs/proposals_maskformer-r50.py'
WORLD_CLIP = ROOT / 'configs/_base_/models/world_clip/open_clip_model.safetensors'
WORLD_SCORER = (
    'model.scorer.type=mmzeg.CLIPDensePoolScorer',
    'model.scorer.clip.model=None',
    f'model.scorer.clip.pretrained={WORLD_CLIP}',
    'model.scorer.prompts=single',
)
# MaskFormer of mmseg's zoo, with narrow layers.
SMALL_MASKFORMER = """
_base_ = {base!r}
narrow = dict(embed_dims=32, num_heads=2)
layer = dict(self_attn_cfg=narrow, cross_attn_cfg=narrow, ffn_cfg=dict(embed_dims=32, feedforward_channels=32))
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8),
    decode_head=dict(
        in_channels=[8, 16, 32, 64],
        feat_channels=32,
        out_channels=32,
        num_queries=6,
        pixel_decoder=dict(norm_cfg=dict(num_groups=8)),
        positional_encoding=dict(num_feats=16),
        transformer_decoder=dict(num_layers=2, layer_cfg=layer),
    ),
)
"""


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three scenes, the first two of which have masks in RLE in the folder ``masks``."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    (tmp_path / 'masks').mkdir()
    for index in range(3):
        image, labels = draw_scene(Scene('test', index, 96))
        Image.fromarray(image).save(folder / f'{index}.png')
        if index == 2:
            continue
        entries = []
        for value in np.unique(labels):
            rle = coco_mask.encode(np.asfortranarray(labels == value, np.uint8))
            entries.append(dict(segmentation=dict(rle, counts=rle['counts'].decode()), predicted_iou=0.9))
        (tmp_path / f'masks/{index}.json').write_text(json.dumps(entries))
    return folder


@pytest.fixture
def demo(photos, tmp_path, monkeypatch, capsys):
    """Run the demo in this process; returns its exit code, stdout and stderr."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    tool = load_tool('tools/demo.py')

    def run_demo(config, weights, *fields):
        arguments = [config, weights, photos, '--classes', 'glade, meadow; zeppelin; brick', '--out', 'out']
        arguments += ['--save-masks', '--segments', '--device', 'cpu', '--cfg-options', *WORLD_SCORER, *fields]
        monkeypatch.setattr(sys, 'argv', ['demo.py', *map(str, arguments)])
        code = 0
        try:
            tool.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run_demo


def test_demo_of_a_folder_of_masks(demo, tmp_path):
    code, _, errors = demo(CONFIG, 'none', f'model.proposals.folder={tmp_path / "masks"}')
    assert code == 1 and '2: no masks of this image: write 2.json, 2.png' in errors and '1 of 3 inputs' in errors
    for index in range(2):
        label_map = np.asarray(Image.open(tmp_path / f'out/masks/{index}.png'))
        segments = json.loads((tmp_path / f'out/segments/{index}.json').read_text())['segments']
        assert label_map.shape == (96, 96) and label_map.max() <= 2
        # Every segment is a mask of the file.
        given = json.loads((tmp_path / f'masks/{index}.json').read_text())
        assert {entry['segmentation']['counts'] for entry in given} == {
            segment['segmentation']['counts'] for segment in segments
        }
    with Image.open(tmp_path / 'out/0.jpg') as drawing:
        assert drawing.size[1] == 96


def test_explanation_of_masks_from_files(photos, tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    arguments = [CONFIG, 'none', photos / '0.png', '--classes', 'brick; sky', '--out', tmp_path / 'page.html']
    fields = [*WORLD_SCORER, f'model.proposals.folder={tmp_path / "masks"}']
    arguments += ['--device', 'cpu', '--cfg-options', *fields]
    monkeypatch.setattr(sys, 'argv', ['explain.py', *map(str, arguments)])
    load_tool('tools/analysis_tools/explain.py').main()
    # A row for every mask, below that of the header.
    num_masks = len(json.loads((tmp_path / 'masks/0.json').read_text()))
    assert (tmp_path / 'page.html').read_text().count('<tr>') == num_masks + 1


@pytest.mark.parametrize('modes', [(), ('--modes', 'seg')])
def test_a_sweep_has_nothing_to_choose(modes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['sweep.py', str(CONFIG), 'none', *modes])
    with pytest.raises(SystemExit) as stopped:
        load_tool('tools/analysis_tools/sweep.py').main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and 'ProposalSegmentor is trained on no classes' in line
    assert not (tmp_path / 'work_dirs').exists()


@pytest.fixture
def maskformer(tmp_path):
    """Return the files of a small MaskFormer of mmseg: its config, and random weights."""
    base = Path(__import__('mmseg').__file__).parent / '.mim/configs/maskformer'
    base /= 'maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
    (tmp_path / 'maskformer.py').write_text(SMALL_MASKFORMER.format(base=str(base)))
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    weights = MODELS.build(Config.fromfile(tmp_path / 'maskformer.py').model).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'maskformer.pth')
    return tmp_path / 'maskformer.py', tmp_path / 'maskformer.pth'


def test_demo_of_mmsegs_maskformer(demo, maskformer, tmp_path):
    model, weights = maskformer
    code, _, errors = demo(MASKFORMER_CONFIG, weights, f'model.proposals.config={model}')
    assert code == 0, errors
    assert np.asarray(Image.open(tmp_path / 'out/masks/2.png')).shape == (96, 96)
    # A model with weights needs them.
    code, _, errors = demo(MASKFORMER_CONFIG, 'none', f'model.proposals.config={model}')
    assert code == 2 and "the checkpoint is 'none', but ProposalSegmentor has" in errors and errors.count('\n') == 1


def test_demo_without_the_folder(demo, tmp_path):
    code, _, errors = demo(CONFIG, 'none', f'model.proposals.folder={tmp_path / "nothing"}')
    assert code == 2 and 'nothing: no such folder of masks; set model.proposals.folder' in errors


def test_the_page_finds_the_masks_of_an_upload(photos, tmp_path, monkeypatch):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    from mmzeg.apis.demo_page_events import EventHandlers

    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(dict(field.split('=', 1) for field in WORLD_SCORER))
    cfg.model.scorer.clip.model = None
    cfg.model.proposals.folder = str(tmp_path / 'masks')
    inferencer = ZeroShotInferencer(cfg, 'none', device='cpu')
    handlers = EventHandlers(inferencer)
    assert handlers.modes == ['geometric'] and '2 of them unseen' in handlers.parsed_names('brick; sky')
    session = Session.start(inferencer, str(photos / '0.png')).classify(inferencer, ['brick', 'sky'])
    drawing, _ = handlers.redraw(session, gamma=0.0, lam=0.5)
    assert drawing.shape == (384, 384, 3)
    *_, explanation = handlers.explain_pixel(session, 'geometric', 3, 3, gamma=0.0, lam=0.5)
    assert 'Scores of the segment' in explanation
    with pytest.raises(ValueError, match='2: no masks of this image'):
        Session.start(inferencer, str(photos / '2.png'))


@pytest.fixture
def pascal_context_fields(tmp_path):
    """Write Pascal Context in miniature, and return the options by which the configs test on it with a small CLIP."""
    pascal_context(tmp_path / 'data')
    return [
        f'test_dataloader.dataset.data_root={tmp_path / "data"}',
        'test_dataloader.dataset.pipeline.1.scale=48',
        'model.scorer.clip.model=None',
        f'model.scorer.clip.pretrained={CLIP}',
        'model.scorer.prompts=single',
        'model.scorer.input_size=64',
        *loaders('test'),
    ]


def test_mmsegs_maskformer_on_a_dataset(maskformer, pascal_context_fields, tmp_path):
    model, weights = maskformer
    fields = [f'model.proposals.config={model}', *pascal_context_fields]
    run('test.py', MASKFORMER_CONFIG, weights, '--work-dir', tmp_path / 'work', '--cfg-options', *fields)
    assert len(present(json.loads((tmp_path / 'work/report.json').read_text()))) == 59


def test_true_masks_of_a_dataset(pascal_context_fields, tmp_path):
    """The label maps are also the files of masks."""
    fields = [f'model.proposals.folder={tmp_path / "data/SegmentationClassContext"}', *pascal_context_fields]
    for tta in ([], ['--tta']):
        printed = run('test.py', CONFIG, 'none', '--work-dir', tmp_path / 'work', *tta, '--cfg-options', *fields)
        assert 'hIoU' in printed.stdout + printed.stderr
        assert len(present(json.loads((tmp_path / 'work/report.json').read_text()))) == 59
    run('analysis_tools/diagnose.py', CONFIG, 'none', '--out', tmp_path / 'diagnosis.json', '--cfg-options', *fields)
    diagnosis = json.loads((tmp_path / 'diagnosis.json').read_text())
    assert diagnosis['true names']['mIoU'] == 100 and diagnosis['recall']['unseen'] == 100
