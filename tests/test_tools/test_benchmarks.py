"""Every dataset, in miniature and in its real form, through its config: converted, trained, tested.

Only data_root, the size of the network and CLIP, a few layers from a file, differ from the configs.
"""

import json
import re

import pytest
from miniature_runs import CLIP, SMALL_CROP, SPLITS, loaders, present, run
from miniatures import ade20k_150, ade20k_release, cityscapes, coco_stuff, pascal_context, voc

SMALL = (
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
    'model.backbone.init_cfg=None',
    'optim_wrapper.type=OptimWrapper',
    'model.decode_head.classifier.text_encoder.model=None',
    f'model.decode_head.classifier.text_encoder.pretrained={CLIP}',
)
SCORER = (
    'model.decode_head.num_queries=6',
    'model.decode_head.transformer_decoder.num_layers=1',
    'model.scorer.clip.model=None',
    f'model.scorer.clip.pretrained={CLIP}',
    'model.scorer.prompts=single',
)


def train(config, work_dir, fields):
    short = ('train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=2')
    run('train.py', f'configs/{config}.py', '--work-dir', work_dir, '--cfg-options', *SMALL, *short, *fields)
    return work_dir / 'iter_2.pth'


def evaluate(config, checkpoint, work_dir, fields):
    printed = run(
        'test.py', f'configs/{config}.py', checkpoint, '--work-dir', work_dir, '--cfg-options', *SMALL, *fields
    )
    assert 'hIoU' in printed.stdout + printed.stderr
    if '_coco_' in config:
        assert ' classes share a synonym with a training class: ' in printed.stdout + printed.stderr
    return json.loads((work_dir / 'report.json').read_text())


@pytest.fixture(scope='module')
def coco_trained(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    coco_stuff(root / 'data')
    fields = [f'{split}_dataloader.dataset.data_root={root / "data"}' for split in SPLITS]
    fields += [*loaders(*SPLITS), *SCORER]
    return train('zegformer_r50_coco', root / 'work', fields), fields


@pytest.fixture(scope='module')
def coco_report(coco_trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp('coco_report')
    evaluate('zegformer_r50_coco', coco_trained[0], folder, coco_trained[1])
    return folder / 'report.json'


def test_coco_stuff(coco_report):
    report = json.loads(coco_report.read_text())
    assert len(present(report)) == 171 and sum(row['mark'] == 'unseen' for row in report['classes']) == 15


def test_comparison_of_two_lambdas(coco_trained, coco_report, tmp_path):
    """Of two tests of one model that differ in lambda, only lambda and the results differ."""
    checkpoint, fields = coco_trained
    evaluate('zegformer_r50_coco', checkpoint, tmp_path, [*fields, 'model.fusion.lam=0.8'])
    printed = run('analysis_tools/compare_results.py', coco_report, tmp_path / 'report.json').stdout
    differing = printed.split('differs')[1].split('change')[0]
    ((field, ours, others),) = re.findall(r'\| ([\w.]+) +\| (\S+) +\| (\S+)', differing)
    assert field == 'config.model.fusion.lam' and float(ours) != float(others) == 0.8
    assert 'unseen_mIoU' in printed and '| IoU in B |' in printed


@pytest.mark.parametrize('config', ['zegformer_r50_voc', 'per-pixel_r50_voc'])
def test_voc(tmp_path, config):
    voc(tmp_path / 'data')
    fields = [f'train_dataloader.dataset.datasets.{index}.data_root={tmp_path / "data"}' for index in range(2)]
    fields += [f'{split}_dataloader.dataset.data_root={tmp_path / "data"}' for split in ('val', 'test')]
    fields += [*loaders(*SPLITS), *(SCORER if config.startswith('zegformer') else ())]
    checkpoint = train(config, tmp_path / 'work', fields)
    report = evaluate(config, checkpoint, tmp_path / 'work', fields)
    assert len(present(report)) == 20


@pytest.fixture(scope='module')
def ade_full_data(tmp_path_factory):
    root = tmp_path_factory.mktemp('ade_full')
    ade20k_release(root / 'ADE20K_2021_17_01')
    run('dataset_converters/ade20k_full.py', root / 'ADE20K_2021_17_01', root)
    return root


@pytest.mark.parametrize('config', ['zegformer_r50_ade-full', 'per-pixel_r50_ade-full'])
def test_ade20k_full(ade_full_data, tmp_path, config):
    fields = [f'{split}_dataloader.dataset.data_root={ade_full_data}' for split in SPLITS]
    fields += [*loaders(*SPLITS), *(SCORER if config.startswith('zegformer') else SMALL_CROP)]
    checkpoint = train(config, tmp_path / 'work', fields)
    report = evaluate(config, checkpoint, tmp_path / 'work', fields)
    assert len(present(report)) == 847


def context_459(root):
    pascal_context(root)
    converter = 'dataset_converters/pascal_context_459.py'
    run(converter, root / 'trainval', root / 'SegmentationClassContext459')


def across_datasets(coco_trained, config, data, work_dir):
    """Test a model of COCO-Stuff on another dataset, and return its report."""
    fields = [f'test_dataloader.dataset.data_root={data}', *loaders('test'), *SCORER, 'model.backbone.depth=50']
    return evaluate(f'zegformer_r101_coco_{config}', coco_trained[0], work_dir, fields)


@pytest.mark.parametrize(
    'config, make, classes',
    [
        ('ade150', ade20k_150, 150),
        ('context59', pascal_context, 59),
        ('context459', context_459, 459),
        ('voc20', voc, 20),
        ('cityscapes', cityscapes, 19),
    ],
)
def test_across_datasets(coco_trained, tmp_path, config, make, classes):
    """A model of COCO-Stuff classifies another dataset's classes, all of them as unseen."""
    make(tmp_path / 'data')
    report = across_datasets(coco_trained, config, tmp_path / 'data', tmp_path / 'work')
    assert len(present(report)) == classes and {row['mark'] for row in report['classes']} == {'unseen'}


def test_across_datasets_to_ade20k_full(coco_trained, ade_full_data, tmp_path):
    report = across_datasets(coco_trained, 'ade-full', ade_full_data, tmp_path)
    assert len(present(report)) == 847 and {row['mark'] for row in report['classes']} == {'unseen'}
