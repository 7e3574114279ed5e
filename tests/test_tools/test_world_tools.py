"""The tools of the procedural dataset: its CLIP, the quick start stopped and resumed, and invalid input."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from PIL import Image
from python_runs import run_python
from tool_loading import load_tool

from mmzeg.clip import CLIP
from mmzeg.datasets.world import CLASSES, UNSEEN
from mmzeg.datasets.world.segment_crops import SegmentCrops
from mmzeg.evaluation.scorer_comparison import ScorerSetting, comparison_settings
from mmzeg.models import ScoreFusion
from mmzeg.utils.weight_files import read_state

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / 'configs/_base_/models'
SHIPPED = WEIGHTS / 'world_clip/open_clip_model.safetensors'


def run(tool, *arguments):
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    command = [str(ROOT / 'tools' / tool), *map(str, arguments)]
    return run_python(command, ROOT, environment)


def test_shipped_weights_are_small():
    assert sum(path.stat().st_size for path in (WEIGHTS / 'world_clip').iterdir()) < 8 * 2**20
    assert (WEIGHTS / 'world_r18.pth').stat().st_size < 8 * 2**20


def test_shipped_clip_classifies_the_scorers_crops():
    accuracy = load_tool('tools/world/train_clip.py').accuracy
    clip = CLIP(str(SHIPPED))
    statistics = dict(mean=clip.image_mean, std=clip.image_std)
    held_out = dict(size=clip.image_size[0], split='test', **statistics)
    single = SegmentCrops(CLASSES, 8, crop_modes={}, images_per_item=len(CLASSES), **held_out)
    segments = SegmentCrops(CLASSES, 40, crop_modes=dict(cropmask=1.0), ragged=0.0, images_per_item=0, **held_out)
    assert accuracy(clip.network, single) >= 93 and accuracy(clip.network, segments) >= 88
    names = clip.text_embeddings(CLASSES, 'single')
    others = (names @ names.t())[~torch.eye(len(CLASSES), dtype=torch.bool)]
    assert others.mean() < 0.3 and others.max() < 0.8
    clip.network.eval()  # accuracy() leaves it in training mode, and this process shares it


def test_clip_is_trained_and_loads(tmp_path):
    result = run('world/train_clip.py', tmp_path / 'clip', '--scenes', 6, '--iters', 2, '--held-out', 1, '--workers', 0)
    assert result.returncode == 0, result.stderr
    assert '% of images of a single class' in result.stdout
    clip = CLIP(str(tmp_path / 'clip/open_clip_model.safetensors'))
    assert clip.image_size == (96, 96) and clip.text_embeddings(['umbrella'], 'single').shape == (1, 128)


def test_clip_of_another_architecture_is_trained_and_loads(tmp_path):
    fields = ['image_size=32', 'patch_size=8', 'width=16', 'layers=2', 'head_width=8']
    short = ['--scenes', 4, '--iters', 2, '--held-out', 1, '--workers', 0]
    result = run('world/train_clip.py', tmp_path / 'clip', '--vision-cfg', *fields, *short)
    assert result.returncode == 0, result.stderr
    clip = CLIP(str(tmp_path / 'clip/open_clip_model.safetensors'))
    assert clip.image_size == (32, 32) and len(clip.network.visual.transformer.resblocks) == 2


@pytest.mark.parametrize('field', ['patch=8', 'patch_size=0', 'patch_size=64', 'timm_model_name=unknown'])
def test_fields_of_the_image_encoder_are_checked(tmp_path, field):
    result = run('world/train_clip.py', tmp_path / 'clip', '--vision-cfg', 'image_size=32', field)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert f'--vision-cfg image_size=32 {field}: open_clip cannot run it' in last


@pytest.mark.parametrize(
    'captions, message',
    [
        ({'zebra': ['zebra']}, "class 'zebra' is not in the world"),
        ({'umbrella': []}, "class 'umbrella' needs a list of one or more words"),
        ({'umbrella': ['umbrella', 'parasol']}, "class 'airplane' has no caption"),
        ('[', 'not JSON'),
    ],
)
def test_caption_list_is_checked(tmp_path, captions, message):
    path = tmp_path / 'captions.json'
    path.write_text(captions if isinstance(captions, str) else json.dumps(captions))
    result = run('world/train_clip.py', tmp_path / 'clip', '--captions', path)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert str(path) in last and message in last


def test_quickstart_is_stopped_and_resumed(tmp_path, capsys):
    fields = ['train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2']
    fields += ['default_hooks.logger.interval=1', 'val_dataloader.dataset.length=1']
    fields += ['test_dataloader.dataset.length=8']
    fields += [f'{split}_dataloader.dataset.size=64' for split in ('train', 'val', 'test')]
    work = tmp_path / 'quick'
    # As if it had been stopped after its first checkpoint.
    short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=9', *fields[2:]]
    stopped = run('train.py', 'configs/zegformer_r18_world.py', '--work-dir', work, '--cfg-options', *short)
    assert stopped.returncode == 0, stopped.stderr
    result = run('world/quickstart.py', '--work-dir', work, '--cfg-options', *fields)
    assert result.returncode == 0, result.stderr
    assert 'resumed' in result.stdout and '4/4' in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith(('| seg', '| img', '| full'))]
    assert len(rows) == 3 and (work / 'figure.png').stat().st_size > 10000
    assert 'sweep.py' in result.stdout and 'diagnose.py' in result.stdout
    checkpoint = load_tool('tools/world/quickstart.py').train(SimpleNamespace(work_dir=work), iters=4)
    assert checkpoint == work / 'iter_4.pth' and 'not trained again' in capsys.readouterr().out
    swept = run(
        'analysis_tools/sweep.py', 'configs/zegformer_r18_world.py', work / 'iter_4.pth', '--data', 'test',
        '--gamma', '0', '--lam', '0.8', '--modes', 'full', '--out', tmp_path / 'swept',
        '--cfg-options', *fields[5:],
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    row = json.loads((tmp_path / 'swept/sweep.json').read_text())['rows'][0]
    full = next(line for line in rows if line.startswith('| full'))
    assert f'{row["seen_mIoU"]:.1f}' in full
    diagnosed = run(
        'analysis_tools/diagnose.py',
        'configs/zegformer_r18_world.py',
        work / 'iter_4.pth',
        '--cfg-options',
        *fields[5:],
    )
    assert diagnosed.returncode == 0 and 'recall of masks' in diagnosed.stdout, diagnosed.stderr


def test_backbone_is_trained_on_crops_and_on_scenes(tmp_path):
    small = ('--iters', 3, '--scenes', 4, '--batch', 8, '--scene-iters', 2, '--scene-batch', 2, '--held-out', 2)
    first = run('world/train_backbone.py', tmp_path / 'first.pth', *small, '--workers', 0)
    assert first.returncode == 0, first.stderr
    assert '% of images of a single class' in first.stdout and '% of segments in scenes' in first.stdout
    again = run('world/train_backbone.py', tmp_path / 'again.pth', *small, '--start', tmp_path / 'first.pth')
    assert again.returncode == 0, again.stderr
    shipped, ours = read_state(WEIGHTS / 'world_r18.pth'), read_state(tmp_path / 'again.pth')
    assert {name: weight.shape for name, weight in ours.items()} == {
        name: weight.shape for name, weight in shipped.items()
    }
    before = read_state(tmp_path / 'first.pth')
    assert any(not torch.equal(before[name], weight) for name, weight in ours.items() if 'layer4' in name)


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('train_backbone', ['.'], '.: a folder: name the file to write'),
        ('train_backbone', ['new.pth', '--start', str(SHIPPED)], 'not weights of this backbone'),
        ('train_clip', ['file'], "File exists: 'file'"),
        ('figure', ['config.py', 'model.pth', 'figure.txt'], 'figure.txt: end its name with one of .png'),
        ('scorers', ['config.py', 'model.pth', '--plot', 'plot.txt'], '--plot plot.txt: end its name with one of .png'),
    ],
)
def test_invalid_arguments_are_refused_before_the_long_part(tmp_path, monkeypatch, capsys, tool, arguments, message):
    module = load_tool(f'tools/world/{tool}.py')
    long_part = dict(
        train_backbone='train', train_clip='train_text_encoder', figure='load_for_evaluation', scorers='compare_scorers'
    )
    monkeypatch.setattr(module, long_part[tool], lambda *_: pytest.fail())
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit) as refused:
        module.main()
    assert refused.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]


def test_segments_are_classified_by_their_own_pixels():
    train_backbone = load_tool('tools/world/train_backbone.py')

    class Blurred(torch.nn.Module):
        def forward(self, images):
            return (torch.nn.functional.avg_pool2d(images, 16),)

    network = train_backbone.SegmentClassifier(Blurred(), 3)
    network.classifier.weight.data.zero_()[4, 0] = network.classifier.weight.data[7, 1] = 1.0
    network.classifier.bias.data.zero_()
    image, label_map = torch.zeros(1, 3, 64, 64), torch.full((1, 64, 64), 4)
    label_map[:, :32], label_map[:, 63, 63] = 7, 9
    image[:, 0, 32:], image[:, 1, :32] = 2.0, 3.0
    logits, labels = network.classify_segments(image, label_map)
    # Class 9 has a single pixel, too small a part of a cell.
    assert labels.tolist() == [4, 7]
    assert logits[0].argmax() == 4 and logits[1].argmax() == 7
    torch.testing.assert_close(logits.max(1).values, torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize('kind', ['missing', 'truncated'])
@pytest.mark.parametrize('field', ['backbone.init_cfg.checkpoint', 'decode_head.classifier.text_encoder.pretrained'])
def test_damaged_weights_end_in_one_line(tmp_path, field, kind):
    source = WEIGHTS / 'world_r18.pth' if field.startswith('backbone') else SHIPPED
    path = tmp_path / source.name
    if kind == 'truncated':
        shutil.copy(source, path)
        os.truncate(path, path.stat().st_size // 2)
    result = run('world/quickstart.py', '--work-dir', tmp_path / 'work', '--cfg-options', f'model.{field}={path}')
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    last = result.stderr.splitlines()[-1]
    assert str(path) in last and ('no such' in last if kind == 'missing' else 'truncated' in last)


def test_classes_are_held_out_as_if_unseen():
    experiments = load_tool('tools/world/experiments.py')
    cfg = Config.fromfile(ROOT / experiments.MAIN.config)
    experiments.hold_out(cfg)
    seen = cfg.train_dataloader.dataset.metainfo.classes
    assert not set(seen) & {*experiments.HELD_OUT, *UNSEEN} and len(seen) == 26
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.unseen_classes == list(experiments.HELD_OUT)
        assert not set(loader.dataset.metainfo.classes) & set(UNSEEN)
    assert cfg.model.decode_head.classifier.vocabulary.unseen == list(experiments.HELD_OUT)


def test_results_of_other_options_or_iterations_are_not_reused(tmp_path, monkeypatch):
    experiments = load_tool('tools/world/experiments.py')
    main = experiments.MAIN

    def run(self, tool, *arguments, log):
        folder = Path(arguments[arguments.index('--out') + 1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'sweep.json').write_text(json.dumps(dict(rows=[arguments[-1]])))

    monkeypatch.setattr(experiments.Experiments, '_run', run)
    runs = experiments.Experiments(tmp_path, 5, 1)
    checkpoint = tmp_path / main.folder / 'seed_0/iter_5.pth'
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert runs.sweep(main, 0, 'test', '--lam', '0.5') == ['0.5']
    assert runs.sweep(main, 0, 'test', '--lam', '0.8') == ['0.8']
    monkeypatch.setattr(experiments.Experiments, '_run', lambda *_, **__: pytest.fail('the result exists'))
    assert runs.sweep(main, 0, 'test', '--lam', '0.8') == ['0.8']
    checkpoint.with_name('config.py').write_text('train_cfg = dict(max_iters=5)')
    with pytest.raises(ValueError, match='seed_0: trained for another number of iterations: give another --work-dir'):
        experiments.Experiments(tmp_path, 9, 1).train(main, 0)


def test_settings_of_fc_clip():
    settings = comparison_settings()
    modes = {name: settings[name].build_fusion(ScoreFusion(mode='unseen')).mode for name in ('exact', 'FC-CLIP')}
    assert modes == {'exact': 'unseen', 'FC-CLIP': 'geometric'}
    assert settings['geometric ensemble'] == ScorerSetting(fusion=settings['FC-CLIP'].fusion)
    assert settings['FC-CLIP'].scorer['type'] == 'mmzeg.CLIPDensePoolScorer'


def test_scorer_settings_are_compared(tmp_path):
    """With random weights: all settings are compared with the exact one, which guaranteed pruning equals."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    init_default_scope('mmseg')
    register_all_modules(init_default_scope=False)
    checkpoint = tmp_path / 'random.pth'
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    result = run(
        'world/scorers.py', 'configs/zegformer_r18_world.py', checkpoint, '--plot', tmp_path / 'plot.png',
        '--out', tmp_path / 'rows.json', '--cfg-options', 'test_dataloader.dataset.length=2',
        'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {row['setting']: row for row in json.loads((tmp_path / 'rows.json').read_text())}
    assert rows['exact']['equal_labels'] == rows['guaranteed']['equal_labels'] == 100
    assert rows['exact']['scored_segments'] == 20
    for name in ('threshold 0.5', 'threshold 0.9', 'threshold 0.8, masks only', 'masks merged'):
        assert 0 < rows[name]['scored_segments'] <= 20
    assert 0 < rows['masks merged, threshold']['scored_segments'] <= 20
    # Another scorer, and another fusion as well.
    for name in ('dense pooling of FC-CLIP', 'FC-CLIP'):
        assert rows[name]['equal_labels'] < 100
    assert (tmp_path / 'plot.png').stat().st_size > 10000
    # The same settings in a figure
    small = ('--scenes', 1, '--settings', 'exact', 'FC-CLIP', 'box only')
    result = run('world/figure.py', 'configs/zegformer_r18_world.py', checkpoint, tmp_path / 'figure.png', *small)
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / 'figure.png') as figure:
        assert figure.width > 4 * figure.height
    result = run('world/scorers.py', 'configs/zegformer_r18_world.py', checkpoint, '--settings', 'FCCLIP')
    assert result.returncode == 2 and "--settings 'FCCLIP' is unknown: use some of 'exact'" in result.stderr


def test_a_sweep_does_not_replace_the_config_of_the_training(tmp_path):
    """MMEngine writes a run's config into its work dir: a sweep's config must not replace the training's."""
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    init_default_scope('mmseg')
    register_all_modules(init_default_scope=False)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'random.pth')
    cfg.work_dir = str(tmp_path)
    cfg.dump(tmp_path / 'config.py')
    before = (tmp_path / 'config.py').read_text()
    result = run(
        'analysis_tools/sweep.py', tmp_path / 'config.py', tmp_path / 'random.pth', '--modes', 'seg',
        '--out', tmp_path, '--cfg-options',
        'val_dataloader.dataset.length=1', 'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'config.py').read_text() == before
