"""Check at the start of a run what the pipelines of its datasets do to labels and to batches."""

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

from mmzeg.datasets.dataloader_check import check_batch, check_dataloader
from mmzeg.evaluation import ZeroShotMIoU
from mmzeg.registry import HOOKS


@HOOKS.register_module()
class PipelineCheckHook(Hook):
    """Apply the pipeline of every dataset to its first sample, and compare the sizes of images that share a batch.

    Labels on other pixels than those of their image would give wrong results without an error.

    Raises (at the start of training, validation or test, and at a validation or test batch of different sizes):
        ValueError: As ``check_dataloader`` and ``check_batch``.

    The configs set the hook in ``default_hooks``; ``tools/train.py`` and ``tools/test.py`` add it to any config.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._has_checked_validation = False

    def before_train(self, runner: Runner) -> None:
        """Check the pipelines of training and validation before the first iteration."""
        check_dataloader(runner.train_dataloader, 'train_dataloader', is_training=True, needs_labels=True)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Check the pipelines of the validation, once."""
        if not self._has_checked_validation:
            _check_evaluation(runner.val_loop, 'val_dataloader')
        self._has_checked_validation = True

    def before_test(self, runner: Runner) -> None:
        """Check the pipelines of the test."""
        _check_evaluation(runner.test_loop, 'test_dataloader')

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Check that the images of a batch have one size."""
        check_batch(data_batch, 'val_dataloader')

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Check that the images of a batch have one size."""
        check_batch(data_batch, 'test_dataloader')


def _check_evaluation(loop, field: str) -> None:
    check_dataloader(loop.dataloader, field, is_training=False, needs_labels=_needs_labels(loop.evaluator.metrics))


def _needs_labels(metrics: Sequence[BaseMetric]) -> bool:
    """Return whether a metric compares predictions with labels."""
    return any(
        isinstance(metric, (ZeroShotMIoU, IoUMetric)) and not getattr(metric, 'format_only', False)
        for metric in metrics
    )
