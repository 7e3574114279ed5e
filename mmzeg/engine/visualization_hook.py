"""Draw test predictions with the classes of the test, including unseen ones."""

from collections.abc import Sequence
from types import SimpleNamespace

from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook as MMSegVisualizationHook
from mmseg.structures import SegDataSample

from mmzeg.registry import HOOKS


@HOOKS.register_module()
class SegVisualizationHook(MMSegVisualizationHook):
    """Draw predictions like mmseg's hook, but do not build the training data loader at test.

    At test mmseg 1.2's hook reads the runner's iteration. The runner then builds the training data loader and gives its
    classes to the visualizer, which would not draw unseen classes. Arguments are mmseg's.
    """

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the images of a batch, if drawing is enabled."""
        super().after_test_iter(SimpleNamespace(iter=0), batch_idx, data_batch, outputs)
