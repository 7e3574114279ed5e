"""Videos and cameras frame by frame, and atomic writing of mp4 files."""

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

VIDEO_SUFFIXES = frozenset(
    ['.3gp', '.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm', '.wmv']
)

# Bytes that must be free before a frame is written: OpenCV does not report a full disk.
MIN_FREE_BYTES = 2**22


class VideoInfo(NamedTuple):
    """The header of a video.

    Args:
        fps (float): Frames per second; 25 where the video or camera does not say.
        frames (int): Number of frames by the header, for some formats an estimate; 0 if unknown.
        size (tuple[int, int]): Height and width of an upright frame.
    """

    fps: float
    frames: int
    size: tuple[int, int]


def is_video(path: str | Path) -> bool:
    """Return whether the file name has the suffix of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_info(source: str | Path | int) -> VideoInfo:
    """Read frame rate, frame count and size of a video or camera; raises as ``frames`` does."""
    with _open_capture(source) as (capture, first_frame):
        fps = capture.get(cv2.CAP_PROP_FPS)
        num_frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Some formats give the clock of their time stamps, 90000 per second, instead of a frame rate.
        return VideoInfo(fps if 0 < fps <= 1000 else 25.0, max(0, int(num_frames)), first_frame.shape[:2])


def frames(source: str | Path | int) -> Iterator[np.ndarray]:
    """Yield every frame, (H, W, 3) uint8 BGR, upright; one at a time is in memory.

    Args:
        source (str | Path | int): A file, or the number of a camera, whose frames do not end.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No frame can be read.
    """
    with _open_capture(source) as (capture, frame):
        while frame is not None:
            yield frame
            frame = capture.read()[1]


@contextmanager
def _open_capture(source: str | Path | int) -> Iterator[tuple[cv2.VideoCapture, np.ndarray]]:
    """Open a video or camera, and read its first frame."""
    if not isinstance(source, int) and not Path(source).is_file():
        raise FileNotFoundError(f'{source}: no such file')
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        first_frame = capture.read()[1]
        if first_frame is None and isinstance(source, int):
            raise ValueError(f'camera {source}: no frame can be read (not connected, or busy)')
        if first_frame is None:
            raise ValueError(f'{source}: no frame can be read (empty, truncated, or not a video)')
        yield capture, first_frame
    finally:
        capture.release()


class VideoWriter:
    """Write frames of one size to an mp4 file, which has a partial name until it is complete.

    Used as a context manager: at its end the file is complete, and after an error it is removed.

    Args:
        path (str | Path): Ends with ``.mp4``.
        fps (float): Frames per second; written to four digits or more.

    Raises:
        OSError: The folder does not exist or cannot be written, or the disk is full.
        ValueError: Another suffix; frames of different sizes.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        # OpenCV writes the rate in tenths, hundredths or thousandths, of which MPEG-4 allows 65535 per second.
        if fps < 65:
            self.fps = round(fps, 3)
        elif fps < 655:
            self.fps = round(fps, 2)
        else:
            self.fps = round(fps, 1)
        self.path = Path(path)
        self.num_frames = 0
        if self.path.suffix.lower() != '.mp4':
            raise ValueError(f'{path}: videos are written as .mp4: change the name')
        # OpenCV chooses the format by the suffix.
        self.partial = self.path.with_name(f'{self.path.stem}.part.mp4')
        self.partial.touch()
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
            if error_type is None and self.num_frames:
                self._check_frame_count()
                os.replace(self.partial, self.path)
        finally:
            self.partial.unlink(missing_ok=True)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 BGR; an odd height or width is padded by one pixel, as the codec needs it."""
        if self._writer is None:
            self._shape = frame.shape
            size = tuple(side + side % 2 for side in frame.shape[1::-1])
            self._writer = cv2.VideoWriter(str(self.partial), cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
            if not self._writer.isOpened():
                raise OSError(f'{self.path}: OpenCV cannot write mp4 here ({size[0]} x {size[1]}, {self.fps} fps)')
        if frame.shape != self._shape:
            raise ValueError(f'{self.path}: a frame of {frame.shape} after frames of {self._shape}')
        if shutil.disk_usage(self.partial.parent).free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        height, width = frame.shape[:2]
        self._writer.write(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge'))
        self.num_frames += 1

    def _check_frame_count(self) -> None:
        """Count the frames in the file: OpenCV does not report a failed write."""
        capture = cv2.VideoCapture(str(self.partial))
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if written < self.num_frames:
            raise OSError(f'{self.path}: {written} of {self.num_frames} frames are in the file; is the disk full?')


def copy_sound(source: str | Path, video: Path) -> str | None:
    """Copy the sound of one video into a finished mp4 file with the ffmpeg program.

    Args:
        source (str | Path): The video with the sound.
        video (Path): The mp4 file, which is replaced atomically.

    Returns:
        str | None: Why it failed, in one line; None on success.
    """
    program = shutil.which('ffmpeg')
    if program is None:
        return 'the ffmpeg program is not installed'
    streams = ['-i', str(video), '-i', str(source), '-map', '0:v', '-map', '1:a?', '-c', 'copy', '-f', 'mp4']
    command = [program, '-v', 'error', '-nostdin', '-y', *streams]
    try:
        atomic_write(video, lambda partial: subprocess.run([*command, str(partial)], check=True, capture_output=True))
    except (subprocess.CalledProcessError, OSError) as error:
        output = getattr(error, 'stderr', b'') or str(error).encode()
        return output.decode(errors='replace').strip().splitlines()[-1]
    return None
