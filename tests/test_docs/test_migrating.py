"""What docs/en/migrating.md says is so: its options, its scripts, and its configs after MaskFormer and SAN."""

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
    """Cells of the first table after a heading, without its head."""
    table = re.search(rf'^#+ {re.escape(heading)}$.*?((?:^\|[^\n]*\n)+)', PAGE, re.M | re.S).group(1)
    return [[cell.strip() for cell in line.strip('| \n').split(' | ')] for line in table.splitlines()[2:]]


def code(cell):
    return re.findall(r'`([^`]+)`', cell)


def value(cfg, field):
    for part in field.split('.'):
        cfg = cfg[int(part)] if part.isdigit() else cfg[part]
    return cfg


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The repository's root as the page supposes it, with its files, and miniatures of the data."""
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


def script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(argument) for argument in arguments])
    runpy.run_path(str(arguments[0]), run_name='__main__')


def small_batch(dataset, cfg):
    """The first sample of a dataset whose pipeline works at 64 pixels."""
    for step in dataset.pipeline:
        for name, size in (('scale', (256, 64)), ('scales', [64]), ('crop_size', (64, 64)), ('size', (64, 64))):
            if name in step:
                step[name] = size
    if 'size' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.size = (64, 64)
    # Of random crops some have no ignored pixel.
    np.random.seed(0)
    return pseudo_collate([DATASETS.build(dataset)[0]])


def with_any_names(model, monkeypatch):
    """The model with random text embeddings: no CLIP is at hand."""
    generator = torch.Generator().manual_seed(0)

    def embeddings(names, prompts, device):
        return torch.nn.functional.normalize(torch.randn(len(names), 512, generator=generator), dim=-1)

    monkeypatch.setattr(model.decode_head.classifier.text_encoder, 'text_embeddings', embeddings)
    return revert_sync_batchnorm(model)


def losses_of(model, batch):
    data = model.data_preprocessor(batch, True)
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    return {name.removeprefix('decode.'): loss.item() for name, loss in losses.items()}


def test_options_have_the_released_values():
    cfg, compared = Config.fromfile(ROOT / 'configs/zegformer_r101_coco.py'), 0
    for released, wanted, here in rows('Options'):
        for field in filter(FIELD.fullmatch, code(here)):
            found = value(cfg, field)
            if code(wanted) and field not in ('model.fusion.mode', 'optim_wrapper.type'):
                assert found == eval(code(wanted)[0]), (released, field)
                compared += 1
    assert compared > 30
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and cfg.model.fusion.mode == 'full'
    assert cfg.crop_size == (640, 640) and cfg.train_dataloader.batch_size * 8 == 32
    assert Config.fromfile(ROOT / 'configs/per-pixel_r50_coco.py').model.gamma == 0.1


def test_modes():
    section = PAGE[PAGE.index('Which opinion names a segment') :]
    assert tuple(re.findall(r'^\|.*\| `(\w+)` \|$', section.partition('\n## ')[0], re.M)) == MODES


def test_split(folder, monkeypatch):
    Path('seen.json').write_text(json.dumps(['cat', 'dog']))
    Path('all.json').write_text(json.dumps(['cow', 'dog', 'cat']))
    script(monkeypatch, 'split.py', 'seen.json', 'all.json', 'split.json')
    vocabulary = Vocabulary('split.json')
    assert vocabulary.names == ('cat', 'dog', 'cow') and vocabulary.unseen == ('cow',)


def test_from_maskformer(folder, monkeypatch):
    before, after = Config.fromfile(MMSEG / MASKFORMER), Config.fromfile('from_maskformer.py')
    for stays in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'model.backbone'):
        assert value(after, stays) == value(before, stays)
    for stays in (
        'pixel_decoder',
        'transformer_decoder',
        'positional_encoding',
        'loss_mask',
        'loss_dice',
        'num_queries',
    ):
        assert after.model.decode_head[stays] == before.model.decode_head[stays]
    seen, tested = small_batch(after.train_dataloader.dataset, after), small_batch(after.val_dataloader.dataset, after)
    classes = after.seen_classes
    assert len(classes) == 147 and after.every_class[147:] == ['bus', 'fountain', 'lake']
    after.model.backbone.init_cfg = None
    model = with_any_names(MODELS.build(after.model), monkeypatch)
    losses = losses_of(model, seen)
    assert len(losses) == 18 and 0 < losses['loss_cls'] < 100
    model.fusion = ScoreFusion('seg')
    model.eval()
    with torch.no_grad():
        (found,) = model.test_step(tested)
    labels = found.gt_sem_seg.data
    # 'bus' is class 81 of ADE20K: ignored in training, class 147 at test.
    assert labels[labels != 255].max() == 149 and found.pred_sem_seg.shape == labels.shape[1:]
    assert seen['data_samples'][0].gt_sem_seg.data.unique().max() == 255


def test_start_from_maskformers_weights(folder, monkeypatch, capsys):
    weights = MODELS.build(Config.fromfile(MMSEG / MASKFORMER).model).state_dict()
    torch.save(dict(state_dict=weights), 'maskformer.pth')
    script(monkeypatch, 'start.py', 'from_maskformer.py', 'maskformer.pth', 'start.pth')
    printed = capsys.readouterr().out
    assert '460 of 463 tensors taken' in printed and printed.count('classifier') == 3
    found = torch.load('start.pth', weights_only=True)['state_dict']
    model = MODELS.build(Config.fromfile('from_maskformer.py').model)
    model.load_state_dict(found)
    for name in ('backbone.layer4.2.conv3.weight', 'decode_head.query_embed.weight', 'decode_head.mask_embed.4.bias'):
        assert torch.equal(model.state_dict()[name], weights[name])


def test_from_san(folder, monkeypatch):
    cfg, san = Config.fromfile('from_san.py'), Config.fromfile(MMSEG / 'san/san-vit-b16_coco-stuff164k-640x640.py')
    before, head = san.model.decode_head, cfg.model.decode_head
    assert [loss.loss_weight for loss in before.loss_decode] == [
        head[name].loss_weight for name in ('loss_cls', 'loss_mask', 'loss_dice')
    ]
    assert [cost.weight for cost in before.train_cfg.assigner.match_costs] == [
        cost.weight for cost in head.assigner.match_costs
    ]
    assert cfg.model.scorer.input_size == san.model.encoder_resolution * 640
    batch = small_batch(cfg.train_dataloader.dataset, cfg)
    cfg.model.backbone.init_cfg = None
    model = with_any_names(MODELS.build(cfg.model), monkeypatch)
    assert isinstance(model.scorer, CLIPMaskScorer)
    losses = losses_of(model, batch)
    assert len(losses) == 18 and 0 < losses['loss_mask'] < 100
    templates = get_predefined_templates('vild')
    assert len(templates) == 14 and all(template.count('{}') == 1 for template in templates)


def test_fields_of_the_tables_are_there():
    sources = dict(
        MaskFormer=[MMSEG / MASKFORMER, MMDET / 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py'],
        SAN=[MMSEG / 'san/san-vit-b16_coco-stuff164k-640x640.py'],
    )
    ours = {
        name
        for kind in (ZegFormer, ZegFormerHead, CLIPTextClassifier, CLIPCropScorer, CLIPMaskScorer, ZeroShotMIoU)
        for name in inspect.signature(kind).parameters
    }
    checked = 0
    for heading, key in (("From MaskFormer, mmseg's or mmdet's", 'MaskFormer'), ("From mmseg's SAN", 'SAN')):
        theirs = ''.join(Config.fromfile(path).pretty_text for path in sources[key])
        theirs += ' '.join(inspect.signature(CLIPTextEncoder).parameters)
        for before, after in rows(heading):
            for field in code(before):
                name = re.match(r'[\w.]+', field).group().rpartition('.')[2]
                assert name in theirs, f'{field} is not in {key}'
                checked += 1
            for field in filter(re.compile(r'[a-z_]+(?:\.[a-z_]+)*').fullmatch, code(after)):
                assert field.rpartition('.')[2] in ours, f'{field} is no field of ours'
    assert checked > 30
