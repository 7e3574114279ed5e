"""Ignoring of uncertain pixels, compression and writing of label maps in threads, behind the network."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from mmzeg.apis.drawing import encode_image_file, indexed_png
from mmzeg.labelling.image_list import label_name
from mmzeg.labelling.image_reader import InputImage
from mmzeg.labelling.job_settings import ignore_index
from mmzeg.labelling.manifest import ManifestPart
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.storage import Storage
from mmzeg.labelling.uncertain_pixels import ignore_small_regions, ignore_uncertain_pixels, label_statistics

NUM_THREADS = 2
LABEL_MAPS = 'annotations'
SCORE_MAPS = 'scores'


class LabelWriter:
    """Write label maps and rows of the manifest in threads, a bounded number behind the network.

    A row is written after its label map. The first error of a thread is raised by the next call.

    Args:
        out (Storage): The output folder.
        part (ManifestPart): Where rows go.
        options (LabelOptions): Which pixels are ignored, and whether margins are saved.
        names (Sequence[str]): Class names.
        max_pending (int): Images that may wait for a thread.
    """

    def __init__(
        self, out: Storage, part: ManifestPart, options: LabelOptions, names: Sequence[str], max_pending: int
    ) -> None:
        self._out = out
        self._part = part
        self._options = options
        self._names = names
        self._ignore_index = ignore_index(len(names))
        self._pool = ThreadPoolExecutor(NUM_THREADS, 'writer')
        self._free = threading.BoundedSemaphore(max_pending)
        self._part_lock = threading.Lock()
        self._error: Exception | None = None

    def write(self, image: InputImage, labels: np.ndarray, margins: np.ndarray, seconds: float) -> None:
        """Hand over a label map; waits while too many of them are pending.

        Args:
            image (InputImage): Its image.
            labels (np.ndarray): (H, W) class indices.
            margins (np.ndarray): (H, W) in [0, 1].
            seconds (float): What the network took for this image.

        Raises:
            OSError: An earlier file cannot be written.
        """
        self._submit(self._write_label_map, image, labels, margins, seconds)

    def write_error(self, image: InputImage) -> None:
        """Hand over an image that cannot be labelled; waits and raises as ``write``."""
        self._submit(self._write_row, image, dict(pixels={}, ignored=0, margins={}, mean_score=None), 0.0)

    def close(self) -> None:
        """Wait for all files; raises as ``write``."""
        self._pool.shutdown()
        self._raise_error()
        self._part.close()

    def abort(self) -> None:
        """Drop what is pending, after an error; rows whose label maps are written stay."""
        self._pool.shutdown(cancel_futures=True)
        with suppress(OSError):
            self._part.close()

    def _submit(self, function: object, *arguments: object) -> None:
        self._free.acquire()
        self._raise_error()
        self._pool.submit(self._run, function, *arguments)

    def _run(self, function: object, *arguments: object) -> None:
        try:
            if self._error is None:
                function(*arguments)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._free.release()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _write_label_map(self, image: InputImage, labels: np.ndarray, margins: np.ndarray, seconds: float) -> None:
        options = self._options
        name = label_name(image.name)
        # Ignore pixels, then look at what is left.
        labels = labels.astype(np.uint16)
        ignore_uncertain_pixels(labels, margins, options.ignore_below, self._ignore_index)
        ignore_small_regions(labels, options.min_area, self._ignore_index)
        statistics = label_statistics(labels, margins, self._names, self._ignore_index)
        # The label map is the last file, then the row.
        if options.save_scores:
            scores = Image.fromarray(np.rint(255 * margins).astype(np.uint8))
            self._out.write(f'{SCORE_MAPS}/{name}', encode_image_file(scores, 'PNG'))
        self._out.write(f'{LABEL_MAPS}/{name}', indexed_png(labels, len(self._names), self._ignore_index))
        self._write_row(image, statistics, seconds)

    def _write_row(self, image: InputImage, statistics: dict, seconds: float) -> None:
        row = dict(
            file=PurePosixPath(image.name).as_posix(),
            width=image.width,
            height=image.height,
            sha1=image.sha1,
            **statistics,
            seconds=round(seconds, 4),
            error=image.error,
        )
        with self._part_lock:
            self._part.append(row)
