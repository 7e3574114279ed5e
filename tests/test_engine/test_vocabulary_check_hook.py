"""Class lists, word vectors and CLIP files that are refused before the first iteration."""

from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.utils import register_all_modules

from mmzeg.engine import VocabularyCheckHook, ensure_check_hooks
from mmzeg.evaluation import ZeroShotMIoU
from mmzeg.models import CLIPCropScorer
from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]
CLIP_FILE = ROOT / 'tests/data/golden/r50_single/clip_openai_format.safetensors'


@pytest.fixture
def runner(monkeypatch, tmp_path):
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_camvid.py')

    def loader():
        return SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=list(cfg.seen_classes))))

    loop = SimpleNamespace(dataloader=loader(), evaluator=SimpleNamespace(metrics=[ZeroShotMIoU()]))
    return SimpleNamespace(model=MODELS.build(cfg.model), train_dataloader=loader(), val_loop=loop, test_loop=loop)


def test_equal_class_lists_pass(runner):
    hook = VocabularyCheckHook()
    hook.before_train(runner)
    hook.before_val(runner)
    hook.before_test(runner)


def test_validation_classes_are_checked_before_training(runner):
    runner.val_loop.dataloader.dataset.metainfo['classes'][3] = 'street'
    with pytest.raises(ValueError, match="class 3 is 'street' in the evaluated dataset but 'road'"):
        VocabularyCheckHook().before_train(runner)


def test_unseen_classes_of_the_metric(runner):
    runner.val_loop.evaluator.metrics = [ZeroShotMIoU(unseen_classes=['car'])]
    with pytest.raises(ValueError, match="'car' is unseen in only one of ZeroShotMIoU and the model"):
        VocabularyCheckHook().before_train(runner)


def test_a_class_without_a_vector_at_test(runner):
    names = [*runner.val_loop.dataloader.dataset.metainfo['classes'], 'zebra']
    runner.val_loop.dataloader.dataset.metainfo['classes'] = names
    runner.model.set_vocabulary(names)
    with pytest.raises(ValueError, match="no vector for class 'zebra'"):
        VocabularyCheckHook().before_train(runner)


def test_the_validation_s_clip_is_read_before_training(runner, tmp_path):
    truncated = tmp_path / 'short.safetensors'
    truncated.write_bytes(CLIP_FILE.read_bytes()[:5000])
    runner.model.scorer = CLIPCropScorer(dict(type='mmzeg.CLIP', pretrained=str(truncated)))
    VocabularyCheckHook().before_train(runner)  # mode seg does not use the scorer
    runner.model.fusion.mode = 'full'
    with pytest.raises(ValueError, match='short.safetensors: truncated'):
        VocabularyCheckHook().before_train(runner)


def test_the_validation_s_clip_is_in_reach_before_training(runner, monkeypatch):
    """With cached text embeddings and no CLIP, the first validation would fail."""

    def unreachable(config):
        raise OSError('no network')

    runner.model.scorer = CLIPCropScorer(dict(type='mmzeg.CLIP', model='ViT-B-16-quickgelu', pretrained='openai'))
    runner.model.fusion.mode = 'full'
    monkeypatch.setattr(type(runner.model.scorer.clip), 'text_embeddings', lambda *args, **kwargs: None)
    monkeypatch.setattr(open_clip, 'download_pretrained', unreachable)
    with pytest.raises(ConnectionError, match='ViT-B-16-quickgelu:openai is out of reach'):
        VocabularyCheckHook().before_train(runner)


@pytest.mark.parametrize('has_default_hook', [True, False])
def test_custom_hooks_do_not_drop_the_check(tmp_path, monkeypatch, has_default_hook):
    """A config with its own hooks and swapped classes is refused before the first iteration, by any train.py."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path / 'cache'))
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_camvid.py')
    cfg.merge_from_dict(dict(custom_hooks=[], work_dir=str(tmp_path), log_level='ERROR', visualizer=None))
    if not has_default_hook:
        del cfg.default_hooks['vocabulary_check']
    runner = Runner.from_cfg(cfg)
    if not has_default_hook:
        ensure_check_hooks(runner)
    swapped = [*reversed(cfg.seen_classes[:2]), *cfg.seen_classes[2:]]
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=swapped)))
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, VocabularyCheckHook))
    run = SimpleNamespace(model=runner.model, train_dataloader=loader, val_loop=None)
    with pytest.raises(ValueError, match=f'class 0 is {swapped[0]!r} in the training dataset'):
        hook.before_train(run)


def test_the_check_is_added_once(runner):
    runner.hooks = []
    runner.register_hook = runner.hooks.append
    for _ in range(2):
        ensure_check_hooks(runner)
    assert sum(isinstance(hook, VocabularyCheckHook) for hook in runner.hooks) == 1
    runner.hooks.clear()
    runner.model = torch.nn.Linear(1, 1)  # a model of another package
    ensure_check_hooks(runner)
    assert not runner.hooks
