"""Label the images of one process: reader threads, the network, writer threads."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.call_settings import CallSettings
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.labelling.image_reader import ImageReader, InputImage
from mmzeg.labelling.label_writer import LabelWriter
from mmzeg.labelling.progress import ProgressLine
from mmzeg.models.proposals import ProposalError

Block = Sequence[tuple[str, bool]]


class LabelEngine:
    """Label blocks of images with one model, in bounded memory.

    Args:
        inferencer (ZeroShotInferencer): The model.
        settings (CallSettings): Class names, fusion and scorer, of ``inferencer.settings``.
        batch_size (int): Images of one size that go through the network together.
    """

    def __init__(self, inferencer: ZeroShotInferencer, settings: CallSettings, batch_size: int) -> None:
        self._inferencer = inferencer
        self._settings = settings
        self._batch_size = batch_size
        # Seconds that the main thread spent: waiting for images, in the network, waiting for files.
        self.seconds = dict(reading=0.0, network=0.0, writing=0.0)

    def run(
        self, blocks: Sequence[Block], reader: ImageReader, writer: LabelWriter, progress: ProgressLine | None = None
    ) -> None:
        """Label all images of blocks that are not done.

        Args:
            blocks (Sequence[Block]): Images, each with whether it is done, see ``image_list.pending_blocks``.
            reader (ImageReader): Reads the images.
            writer (LabelWriter): Writes the label maps.
            progress (ProgressLine, optional): Is advanced.

        Raises:
            OSError: A file cannot be written.
        """
        images = self._timed(reader.read(entry for block in blocks for entry in block))
        try:
            for block in blocks:
                for batch in group_by_size(islice(images, len(block)), self._batch_size):
                    # A batch whose images are all done is not needed again.
                    if not all(image.is_done for image in batch):
                        self._label(batch, writer)
                    if progress is not None:
                        progress.advance(sum(not image.is_done for image in batch))
            writer.close()
        except BaseException:
            writer.abort()
            raise
        finally:
            images.close()

    def _label(self, batch: list[InputImage], writer: LabelWriter) -> None:
        """Label a batch of images of one size, or write why its only image cannot be labelled."""
        label_maps = []
        if batch[0].error is None:
            start = time.monotonic()
            label_maps = [self._label_map(prediction) for prediction in self._predict(batch)]
            seconds = time.monotonic() - start
            self.seconds['network'] += seconds
        # An error that the prediction came to removes its image from the batch.
        labelled = [image for image in batch if image.error is None]
        start = time.monotonic()
        for image, (labels, margins) in zip(labelled, label_maps, strict=True):
            if not image.is_done:
                writer.write(image, labels, margins, seconds / len(batch))
        for image in batch:
            if image.error is not None and not image.is_done:
                writer.write_error(image)
        self.seconds['writing'] += time.monotonic() - start

    def _predict(self, batch: list[InputImage]) -> list[SegmentPredictions]:
        """Predict the segments of all images; an image whose masks cannot be read gets an error and no prediction."""
        images = list(batch)
        while images:
            try:
                return self._inferencer.predict_segments([image.data for image in images], self._settings)
            except ProposalError as error:
                images.pop(error.index).error = str(error)
        return []

    def _label_map(self, prediction: SegmentPredictions) -> tuple[np.ndarray, np.ndarray]:
        """Return class indices and margins as arrays (H, W)."""
        labels, margins = prediction.label_map_and_margins(self._settings.fusion)
        return labels.int().cpu().numpy(), margins.cpu().numpy()

    def _timed(self, images: Iterator[InputImage]) -> Iterator[InputImage]:
        """Yield the images, and measure the time that the network waits for them."""
        try:
            while True:
                start = time.monotonic()
                image = next(images, None)
                self.seconds['reading'] += time.monotonic() - start
                if image is None:
                    return
                yield image
        finally:
            images.close()


def group_by_size(images: Iterable[InputImage], batch_size: int) -> Iterator[list[InputImage]]:
    """Yield batches of images of one size after the test pipeline, as soon as they are complete, the others at the end.

    An image with an error is a batch of its own.
    """
    groups: dict[tuple, list[InputImage]] = {}
    for image in images:
        if image.error is not None:
            yield [image]
            continue
        size = tuple(image.data['inputs'].shape)
        group = groups.setdefault(size, [])
        group.append(image)
        if len(group) == batch_size:
            yield groups.pop(size)
    yield from groups.values()
