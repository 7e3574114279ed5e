"""docs/en/migrating.md is true: its table of options, its scripts, and its configs made from MaskFormer and SAN."""

import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import mmdet
import mmseg
import numpy as np
import pytest
import torch
from miniatures import ade20k_150, coco_stuff
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.models.text_encoder import CLIPTextEncoder
from mmseg.registry import DATASETS, MODELS
from mmseg.utils import get_predefined_templates, register_all_modules

from mmzeg.evaluation import ZeroShotMIoU
from mmzeg.models import CLIPTextClassifier, ScoreFusion, ZegFormer, ZegFormerHead
from mmzeg.models.fusion import MODES
from mmzeg.models.scorers import CLIPCropScorer, CLIPMaskScorer
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/en/migrating.md').read_text()
MMSEG, MMDET = (Path(package.__file__).parent / '.mim/configs' for package in (mmseg, mmdet))
MASKFORMER = 'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
FIELD = re.compile(r'(?:model|optim_wrapper|param_scheduler|train_cfg|train_dataloader)(?:\.\w+)+')


def rows(heading):
    """Return the cells of the first table after a heading, without the header row."""
    table = re.search(rf'^#+ {re.escape(heading)}$.*?((?:^\|[^\n]*\n)+)', PAGE, re.M | re.S).group(1)
    return [[cell.strip() for cell in line.strip('| \n').split(' | ')] for line in table.splitlines()[2:]]


def code(cell):
    """Return the code spans of a table cell."""
    return re.findall(r'`([^`]+)`', cell)


def value(cfg, field):
    """Return a field of a config by its dotted name."""
    for key in field.split('.'):
        cfg = cfg[int(key)] if key.isdigit() else cfg[key]
    return cfg


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder like the repository's root, with the files of the page and miniatures of the data."""
    for name in ('configs', 'mmzeg'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'mmseg_files').symlink_to(MMSEG.parent)
    ade20k_150(tmp_path / 'data/ade/ADEChallengeData2016')
    coco_stuff(tmp_path / 'data/coco_stuff164k')
    for name, text in re.findall(r'^```python title="([^"]+\.py)"\n(.*?)^```$', PAGE, re.M | re.S):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    scope = DefaultScope.get_current_instance()
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    yield tmp_path
    if scope is not None:
        init_default_scope(scope.scope_name)


def run_script(monkeypatch, *arguments):
    """Run a script of the page with these arguments."""
    monkeypatch.setattr(sys, 'argv', [str(argument) for argument in arguments])
    runpy.run_path(str(arguments[0]), run_name='__main__')


def small_batch(dataset, cfg):
    """Return a batch of the first sample of a dataset whose pipeline works at 64 pixels."""
    for step in dataset.pipeline:
        for name, size in (('scale', (256, 64)), ('scales', [64]), ('crop_size', (64, 64)), ('size', (64, 64))):
            if name in step:
                step[name] = size
    if 'size' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.size = (64, 64)
    # Some random crops have no ignored pixel.
    np.random.seed(0)
    return pseudo_collate([DATASETS.build(dataset)[0]])


def with_random_text_embeddings(model, monkeypatch):
    """Return the model with random text embeddings in place of CLIP's."""
    generator = torch.Generator().manual_seed(0)

    def embeddings(names, prompts, device):
        return torch.nn.functional.normalize(torch.randn(len(names), 512, generator=generator), dim=-1)

    monkeypatch.setattr(model.decode_head.classifier.text_encoder, 'text_embeddings', embeddings)
    return revert_sync_batchnorm(model)


def losses_of(model, batch):
    """Return the losses of a batch by name; every trainable parameter gets a gradient."""
    data = model.data_preprocessor(batch, True)
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    return {name.removeprefix('decode.'): loss.item() for name, loss in losses.items()}


def test_options_have_the_released_values():
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r101_coco.py')
    num_compared = 0
    for option, released_value, fields in rows('Options'):
        for field in filter(FIELD.fullmatch, code(fields)):
            our_value = value(cfg, field)
            if code(released_value) and field not in ('model.fusion.mode', 'optim_wrapper.type'):
                assert our_value == eval(code(released_value)[0]), (option, field)
                num_compared += 1
    assert num_compared > 30
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and cfg.model.fusion.mode == 'full'
    assert cfg.crop_size == (640, 640) and cfg.train_dataloader.batch_size * 8 == 32
    assert Config.fromfile(ROOT / 'configs/per-pixel_r50_coco.py').model.gamma == 0.1


def test_modes():
    section = PAGE[PAGE.index('The scores that classify a segment') :]
    modes = re.findall(r'^\|.*\| `(\w+)` \|$', section.partition('\n## ')[0], re.M)
    # FC-CLIP's mode is none of the released ZegFormer's.
    assert {*modes, 'geometric'} == set(MODES)


def test_split(folder, monkeypatch):
    Path('seen.json').write_text(json.dumps(['cat', 'dog']))
    Path('all.json').write_text(json.dumps(['cow', 'dog', 'cat']))
    run_script(monkeypatch, 'split.py', 'seen.json', 'all.json', 'split.json')
    vocabulary = Vocabulary('split.json')
    assert vocabulary.names == ('cat', 'dog', 'cow') and vocabulary.unseen == ('cow',)


def test_from_maskformer(folder, monkeypatch):
    before = Config.fromfile(MMSEG / MASKFORMER)
    after = Config.fromfile('from_maskformer.py')
    for field in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'model.backbone'):
        assert value(after, field) == value(before, field)
    for field in (
        'pixel_decoder',
        'transformer_decoder',
        'positional_encoding',
        'loss_mask',
        'loss_dice',
        'num_queries',
    ):
        assert after.model.decode_head[field] == before.model.decode_head[field]
    train_batch = small_batch(after.train_dataloader.dataset, after)
    val_batch = small_batch(after.val_dataloader.dataset, after)
    assert len(after.seen_classes) == 147 and after.all_classes[147:] == ['bus', 'fountain', 'lake']
    after.model.backbone.init_cfg = None
    model = with_random_text_embeddings(MODELS.build(after.model), monkeypatch)
    losses = losses_of(model, train_batch)
    assert len(losses) == 18 and 0 < losses['loss_cls'] < 100
    model.fusion = ScoreFusion('seg')
    model.eval()
    with torch.no_grad():
        (sample,) = model.test_step(val_batch)
    labels = sample.gt_sem_seg.data
    # 'bus' is class 81 of ADE20K: ignored in training, class 147 at test.
    assert labels[labels != 255].max() == 149 and sample.pred_sem_seg.shape == labels.shape[1:]
    assert train_batch['data_samples'][0].gt_sem_seg.data.unique().max() == 255


def test_start_from_maskformers_weights(folder, monkeypatch, capsys):
    weights = MODELS.build(Config.fromfile(MMSEG / MASKFORMER).model).state_dict()
    torch.save(dict(state_dict=weights), 'maskformer.pth')
    run_script(monkeypatch, 'start.py', 'from_maskformer.py', 'maskformer.pth', 'start.pth')
    printed = capsys.readouterr().out
    assert '460 of 463 tensors copied' in printed and printed.count('classifier') == 3
    model = MODELS.build(Config.fromfile('from_maskformer.py').model)
    model.load_state_dict(torch.load('start.pth', weights_only=True)['state_dict'])
    for name in ('backbone.layer4.2.conv3.weight', 'decode_head.query_embed.weight', 'decode_head.mask_embed.4.bias'):
        assert torch.equal(model.state_dict()[name], weights[name])


def test_from_san(folder, monkeypatch):
    cfg = Config.fromfile('from_san.py')
    san = Config.fromfile(MMSEG / 'san/san-vit-b16_coco-stuff164k-640x640.py')
    san_head = san.model.decode_head
    head = cfg.model.decode_head
    assert [loss.loss_weight for loss in san_head.loss_decode] == [
        head[name].loss_weight for name in ('loss_cls', 'loss_mask', 'loss_dice')
    ]
    assert [cost.weight for cost in san_head.train_cfg.assigner.match_costs] == [
        cost.weight for cost in head.assigner.match_costs
    ]
    assert cfg.model.scorer.input_size == san.model.encoder_resolution * 640
    batch = small_batch(cfg.train_dataloader.dataset, cfg)
    cfg.model.backbone.init_cfg = None
    model = with_random_text_embeddings(MODELS.build(cfg.model), monkeypatch)
    assert isinstance(model.scorer, CLIPMaskScorer)
    losses = losses_of(model, batch)
    assert len(losses) == 18 and 0 < losses['loss_mask'] < 100
    templates = get_predefined_templates('vild')
    assert len(templates) == 14 and all(template.count('{}') == 1 for template in templates)


def test_fields_of_the_tables_exist():
    sources = dict(
        MaskFormer=[MMSEG / MASKFORMER, MMDET / 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py'],
        SAN=[MMSEG / 'san/san-vit-b16_coco-stuff164k-640x640.py'],
    )
    our_fields = {
        name
        for component in (ZegFormer, ZegFormerHead, CLIPTextClassifier, CLIPCropScorer, CLIPMaskScorer, ZeroShotMIoU)
        for name in inspect.signature(component).parameters
    }
    num_checked = 0
    for heading, key in (("From MaskFormer, mmseg's or mmdet's", 'MaskFormer'), ("From mmseg's SAN", 'SAN')):
        their_fields = ''.join(Config.fromfile(path).pretty_text for path in sources[key])
        their_fields += ' '.join(inspect.signature(CLIPTextEncoder).parameters)
        for before, after in rows(heading):
            for field in code(before):
                name = re.match(r'[\w.]+', field).group().rpartition('.')[2]
                assert name in their_fields, f'{field} is not in {key}'
                num_checked += 1
            for field in filter(re.compile(r'[a-z_]+(?:\.[a-z_]+)*').fullmatch, code(after)):
                assert field.rpartition('.')[2] in our_fields, f'{field} is not a field of mmzeg'
    assert num_checked > 30
