"""Reading, decoding and resizing of images in threads, ahead of the network."""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmzeg.apis.input_pipeline import apply_input_pipeline, build_input_pipeline
from mmzeg.labelling.storage import Storage
from mmzeg.utils.error_messages import one_line
from mmzeg.utils.image_decoding import decode_image

NUM_THREADS = 4
# Times that an image is read if another program writes it meanwhile.
MAX_READS = 3


@dataclass
class InputImage:
    """An image on its way to the network, or why it cannot be labelled.

    Args:
        name (str): Its path below the folder of images.
        is_done (bool): Whether it has a label map, and only completes a batch.
        sha1 (str, optional): Of the file; None if it cannot be read.
        width, height (int, optional): In pixels; None if it cannot be decoded.
        data (dict, optional): Of ``apply_input_pipeline``; None with an error.
        error (str, optional): Why the image cannot be labelled.
    """

    name: str
    is_done: bool
    sha1: str | None = None
    width: int | None = None
    height: int | None = None
    data: dict | None = None
    error: str | None = None


class ImageReader:
    """Read images in threads, in order, a bounded number ahead.

    Args:
        images (Storage): The folder of images.
        cfg (Config): Its test pipeline is applied to the images.
        lookahead (int): How many images are read ahead of the one that is returned.
    """

    def __init__(self, images: Storage, cfg: Config, lookahead: int) -> None:
        self._images = images
        self._cfg = cfg
        self._lookahead = lookahead
        # Some transforms keep a state while they run.
        self._pipelines = threading.local()

    def read(self, names: Iterable[tuple[str, bool]]) -> Iterator[InputImage]:
        """Yield the images of names, each with whether it is done, in order."""
        pool = ThreadPoolExecutor(NUM_THREADS, 'reader')
        futures = deque()
        try:
            for name, is_done in names:
                futures.append(pool.submit(self._read, name, is_done))
                if len(futures) > self._lookahead:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, name: str, is_done: bool) -> InputImage:
        image = InputImage(name, is_done)
        path = self._images.path(name)
        # Read the file.
        try:
            content = self._read_unchanged(name)
        except FileNotFoundError:
            image.error = f'{path}: no such file; it vanished after the images were listed'
            return image
        # A backend may raise anything, for a connection that is lost.
        except Exception as error:
            image.error = f'{path}: cannot be read ({one_line(error)})'
            return image
        image.sha1 = hashlib.sha1(content).hexdigest()
        if not content:
            image.error = f'{path}: an empty file'
            return image
        # Decode and resize it.
        try:
            pixels = decode_image(content, path)
            image.height, image.width = pixels.shape[:2]
            image.data = apply_input_pipeline(self._pipeline(), pixels, path)
        except ValueError as error:
            # The pipeline knows no file names.
            text = one_line(error)
            image.error = text if text.startswith(path) else f'{path}: {text}'
        return image

    def _read_unchanged(self, name: str) -> bytes:
        """Return a file's content; of a local file that another program writes meanwhile, the one after that."""
        for _ in range(MAX_READS):
            before = self._version(name)
            content = self._images.read(name)
            if self._version(name) == before:
                return content
        raise ValueError('it changed meanwhile')

    def _version(self, name: str) -> tuple | None:
        if not self._images.is_local:
            return None
        status = os.stat(Path(self._images.path(name)))
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _pipeline(self) -> object:
        if not hasattr(self._pipelines, 'pipeline'):
            self._pipelines.pipeline = build_input_pipeline(self._cfg)
        return self._pipelines.pipeline
