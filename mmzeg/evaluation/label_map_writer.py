"""Write the predicted label maps of a test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from PIL import Image

from mmzeg.registry import METRICS
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.relative_names import relative_name


@METRICS.register_module()
class LabelMapWriter(BaseMetric):
    """Write predicted label maps as grey PNGs of 8 bits, like mmseg's ``IoUMetric(output_dir=..., format_only=True)``.

    mmseg names files by the stem of their image, so that ``seq1/0000.jpg`` replaces the label map of ``seq0/0000.jpg``.
    This metric keeps subfolders. It computes no score.

    Args:
        output_dir (str): The folder to write to.
        image_folders (list[str]): The folders of images, see ``mmzeg.utils.relative_names``.
        kwargs: What mmengine's ``BaseMetric`` takes.
    """

    def __init__(self, output_dir: str, image_folders: Sequence[str], **kwargs) -> None:
        super().__init__(**kwargs)
        self.output_dir = Path(output_dir)
        self.image_folders = list(image_folders)
        self._image_of_stem: dict[str, str] = {}

    def process(self, data_batch: dict | None, data_samples: Sequence[dict]) -> None:
        """Write the label maps of a batch.

        Args:
            data_batch (dict): Unused; part of mmengine's interface.
            data_samples (Sequence[dict]): With ``img_path`` and ``pred_sem_seg``, which holds ``data`` (1, H, W).

        Raises:
            ValueError: Two images have the same name but for their suffix; or a value is above 255.
        """
        for sample in data_samples:
            # A distributed sampler may repeat an image.
            image = str(sample['img_path'])
            stem = Path(relative_name(image, self.image_folders)).with_suffix('').as_posix()
            other = self._image_of_stem.setdefault(stem, image)
            if other != image:
                raise ValueError(f'{image}: its label map would replace that of {other}: rename one of the images')

            # As in mmseg, values are one higher where the dataset reduces its labels by one.
            labels = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy() + int(
                sample.get('reduce_zero_label', False)
            )
            if labels.max() > 255:
                raise ValueError(f'{image}: class index {labels.max()} does not fit into a label map of 8 bits')
            path = self.output_dir / f'{stem}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            output = Image.fromarray(labels.astype(np.uint8))
            atomic_write(path, lambda partial, output=output: output.save(partial, 'PNG'))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return no score."""
        return {}
