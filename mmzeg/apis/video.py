"""Videos and cameras frame by frame, and videos that are whole or not there."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmzeg.utils.atomic import atomic_write

SUFFIXES = frozenset(
    ['.3gp', '.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm', '.wmv']
)

# Bytes that have to be free before a frame is written: OpenCV says nothing when the disk is full.
RESERVE = 2**22


class VideoInfo(NamedTuple):
    """What a video says of itself.

    Args:
        fps (float): Frames a second; 25 where the video or camera does not say.
        frames (int): How many, by the file's own account, for some formats an estimate; 0 if unknown.
        size (tuple[int, int]): Height and width as they are shown.
    """

    fps: float
    frames: int
    size: tuple[int, int]


def is_video(path: str | Path) -> bool:
    """Whether the name ends as that of a video."""
    return Path(path).suffix.lower() in SUFFIXES


def video_info(source: str | Path | int) -> VideoInfo:
    """Frame rate, frame count and size; raises as ``frames`` does."""
    with _opened(source) as (capture, first):
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Some formats give the clock of their time stamps, 90000 a second, in place of a rate.
        return VideoInfo(fps if 0 < fps <= 1000 else 25.0, max(0, int(count)), first.shape[:2])


def frames(source: str | Path | int) -> Iterator[np.ndarray]:
    """Every frame, (H, W, 3) uint8 BGR, upright; one at a time is in memory.

    Args:
        source (str | Path | int): A file, or the number of a camera, whose frames have no end.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No frame can be read.
    """
    with _opened(source) as (capture, frame):
        while frame is not None:
            yield frame
            frame = capture.read()[1]


@contextmanager
def _opened(source: str | Path | int) -> Iterator[tuple[cv2.VideoCapture, np.ndarray]]:
    """The capture and its first frame."""
    if not isinstance(source, int) and not Path(source).is_file():
        raise FileNotFoundError(f'{source}: no such file')
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        first = capture.read()[1]
        if first is None:
            name = f'camera {source}' if isinstance(source, int) else source
            reason = 'it is not there, or busy' if isinstance(source, int) else 'empty, cut off, or not a video'
            raise ValueError(f'{name}: no frame can be read ({reason})')
        yield capture, first
    finally:
        capture.release()


class VideoWriter:
    """An mp4 file of frames of one size, under a partial name until it is finished.

    As a context it finishes the file at the end, and removes it if there was an error.

    Args:
        path (str | Path): Ends with ``.mp4``.
        fps (float): Frames a second; written to four digits or more.

    Raises:
        OSError: The folder is not there or cannot be written, or the disk is full.
        ValueError: Another suffix; frames of different sizes.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        # OpenCV counts it in tenths, hundredths or thousandths, of which MPEG-4 takes 65535 a second.
        self.fps = round(fps, 3 if fps < 65 else 2 if fps < 655 else 1)
        self.path, self.count = Path(path), 0
        if self.path.suffix.lower() != '.mp4':
            raise ValueError(f'{path}: videos are written as .mp4: change the name')
        # OpenCV takes the format from the suffix.
        self.partial = self.path.with_name(f'{self.path.stem}.part.mp4')
        self.partial.touch()
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
            if kind is None and self.count:
                self._check()
                os.replace(self.partial, self.path)
        finally:
            self.partial.unlink(missing_ok=True)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 BGR; an odd height or width is padded by one, as the codec needs it."""
        if self._writer is None:
            self._shape = frame.shape
            size = tuple(side + side % 2 for side in frame.shape[1::-1])
            self._writer = cv2.VideoWriter(str(self.partial), cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
            if not self._writer.isOpened():
                raise OSError(f'{self.path}: OpenCV cannot write mp4 here ({size[0]} x {size[1]}, {self.fps} a second)')
        if frame.shape != self._shape:
            raise ValueError(f'{self.path}: a frame of {frame.shape} among those of {self._shape}')
        if shutil.disk_usage(self.partial.parent).free < RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        height, width = frame.shape[:2]
        self._writer.write(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge'))
        self.count += 1

    def _check(self) -> None:
        """OpenCV reports no failed write: what is in the file is counted."""
        capture = cv2.VideoCapture(str(self.partial))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if found < self.count:
            raise OSError(f'{self.path}: {found} of {self.count} frames are in the file; is the disk full?')


def copy_sound(source: str | Path, video: Path) -> str | None:
    """Give a finished mp4 file the sound of another video, by the ffmpeg program; returns why not where it cannot."""
    program = shutil.which('ffmpeg')
    if program is None:
        return 'the ffmpeg program is not installed'
    given = ['-i', str(video), '-i', str(source), '-map', '0:v', '-map', '1:a?', '-c', 'copy', '-f', 'mp4']
    command = [program, '-v', 'error', '-nostdin', '-y', *given]
    try:
        atomic_write(video, lambda partial: subprocess.run([*command, str(partial)], check=True, capture_output=True))
    except (subprocess.CalledProcessError, OSError) as error:
        said = getattr(error, 'stderr', b'') or str(error).encode()
        return said.decode(errors='replace').strip().splitlines()[-1]
    return None
