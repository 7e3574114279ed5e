"""Stops a run at its start where model, dataset and metric disagree about the classes."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmzeg.registry import HOOKS
from mmzeg.vocabulary import Vocabulary


@HOOKS.register_module()
class VocabularyCheckHook(Hook):
    """Compares the classifier's vocabularies with the classes of the datasets and metrics.

    Raises (at the start of training, validation or test):
        ValueError: Names the first class that differs, and where.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Training classes, and those of validation, before the first iteration."""
        meta = runner.train_dataloader.dataset.metainfo
        _classifier(runner).train_vocabulary.check_matches(meta['classes'], 'the training dataset')
        if runner.val_loop is not None:
            self._check(runner, runner.val_loop)

    def before_val(self, runner: Runner) -> None:
        """Classes of the validation dataset and of its metrics."""
        self._check(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Classes of the test dataset and of its metrics."""
        self._check(runner, runner.test_loop)

    @staticmethod
    def _check(runner: Runner, loop) -> None:
        meta = loop.dataloader.dataset.metainfo
        vocabulary: Vocabulary = _classifier(runner).vocabulary
        vocabulary.check_matches(meta['classes'], 'the evaluated dataset', unseen=meta.get('unseen_classes', ()))
        for metric in loop.evaluator.metrics:
            unseen = getattr(metric, 'unseen_classes', None)
            if unseen is not None:
                vocabulary.check_matches(vocabulary.names, type(metric).__name__, unseen=unseen)


def _classifier(runner: Runner):
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model = getattr(model, 'module', model)  # test-time augmentation wraps once more
    return model.decode_head.classifier
