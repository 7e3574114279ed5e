"""Inputs of the inferencer: folders, patterns and videos as several images, read one after another."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mmzeg.apis.video import frames, is_video
from mmzeg.utils.image_decoding import IMAGE_SUFFIXES, read_image


def expand_inputs(inputs: object) -> list[object]:
    """Return single files, arrays, images and camera numbers for inputs that may stand for several.

    Args:
        inputs: One of these, a folder, a pattern such as ``photos/*.jpg``, or a list of all that.

    Raises:
        FileNotFoundError: No file matches a pattern, or a folder has neither images nor videos.
    """
    if isinstance(inputs, (list, tuple)):
        return [source for entry in inputs for source in expand_inputs(entry)]
    if isinstance(inputs, (str, Path)) and os.path.isdir(inputs):
        paths = sorted(Path(inputs).iterdir())
        # macOS writes a hidden file ._NAME, which is no image, for every NAME on some disks.
        files = [
            str(path)
            for path in paths
            if not path.name.startswith('.') and (path.suffix.lower() in IMAGE_SUFFIXES or is_video(path))
        ]
        if not files:
            raise FileNotFoundError(f'{inputs}: no image and no video in this folder')
        return files
    if isinstance(inputs, str) and glob.has_magic(inputs) and not os.path.exists(inputs):
        files = sorted(glob.glob(inputs, recursive=True))
        if not files:
            raise FileNotFoundError(f'{inputs}: no file matches this pattern')
        return files
    return [inputs]


def read_images(sources: Iterable[object]) -> Iterator[tuple[object, np.ndarray | None, str | None]]:
    """Read images one after another, and the frames of videos and cameras.

    Args:
        sources: As from ``expand_inputs``.

    Yields:
        tuple: The source (of a frame FILE#NUMBER), the image (H, W, 3) uint8 RGB, and None. If an image, or the
        remaining frames of a video, cannot be read: the source, None, and the reason.
    """
    for source in sources:
        # True and False are instances of int, too.
        is_camera = type(source) is int
        try:
            if is_camera or isinstance(source, (str, Path)) and is_video(source):
                for number, frame in enumerate(frames(source)):
                    yield f'{source}#{number}', np.ascontiguousarray(frame[..., ::-1]), None
            else:
                yield source, read_image(source), None
        except (OSError, ValueError) as error:
            yield source, None, str(error)


def file_of(source: object) -> str | None:
    """Return the file that an input is; None for an array, an image in memory, or a frame of a video."""
    return str(source) if isinstance(source, (str, Path)) and Path(source).is_file() else None


def source_name(source: object) -> str:
    """Return the name of an input for error messages."""
    return str(source) if isinstance(source, (str, Path)) else f'a {type(source).__name__}'
