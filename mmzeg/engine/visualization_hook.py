"""Draws test pictures with the classes of the test, unseen ones too."""

from collections.abc import Sequence
from types import SimpleNamespace

from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook as MMSegVisualizationHook
from mmseg.structures import SegDataSample

from mmzeg.registry import HOOKS


@HOOKS.register_module()
class SegVisualizationHook(MMSegVisualizationHook):
    """mmseg's, without the training's data.

    At test mmseg 1.2's asks the runner for its iteration. That makes the runner build the training's data loader, and
    gives the visualizer the classes of it: unseen ones would not be drawn. Arguments are mmseg's.
    """

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the pictures of a batch, if they are to be drawn."""
        super().after_test_iter(SimpleNamespace(iter=0), batch_idx, data_batch, outputs)
