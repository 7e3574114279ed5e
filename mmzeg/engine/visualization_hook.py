"""Draw test predictions with the classes of the test, including unseen ones."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmseg.engine.hooks import SegVisualizationHook as MMSegVisualizationHook
from mmseg.structures import SegDataSample

from mmzeg.datasets.transforms.load_image import LoadImageNamingFile
from mmzeg.registry import HOOKS
from mmzeg.utils.relative_names import image_folders, relative_name


@HOOKS.register_module()
class SegVisualizationHook(MMSegVisualizationHook):
    """Draw predictions like mmseg's hook, but keep subfolders and do not build the training data loader at test.

    mmseg names a drawing by the file name of its image, so that ``seq1/0000.jpg`` replaces the drawing of
    ``seq0/0000.jpg``. At test mmseg 1.2's hook reads the runner's iteration. The runner then builds the training data
    loader and gives its classes to the visualizer, which would not draw unseen classes. Arguments are mmseg's.
    """

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the images of a validation batch, if drawing is enabled."""
        self._draw(runner.val_loop, batch_idx, outputs, mode='val', step=runner.iter)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the images of a test batch, if drawing is enabled."""
        self._draw(runner.test_loop, batch_idx, outputs, mode='test', step=0)

    def _draw(
        self, loop: ValLoop | TestLoop, batch_idx: int, outputs: Sequence[SegDataSample], mode: str, step: int
    ) -> None:
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        folders = image_folders(loop.dataloader.dataset)
        load = LoadImageNamingFile(backend_args=self.backend_args)
        for output in outputs:
            name = Path(relative_name(output.img_path, folders))
            name = name.with_name(f'{mode}_{name.name}')
            # MMEngine's backend for files writes nothing, in silence, if the folder does not exist.
            for backend in self._visualizer._vis_backends.values():
                if isinstance(backend, LocalVisBackend):
                    Path(backend.experiment._img_save_dir, name).parent.mkdir(parents=True, exist_ok=True)
            self._visualizer.add_datasample(
                name.as_posix(),
                load(dict(img_path=output.img_path))['img'][..., ::-1],
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=step,
            )
