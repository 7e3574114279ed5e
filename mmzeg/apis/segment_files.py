"""Segment image files, videos and cameras, and write the predictions to files."""

import errno
import time
from collections.abc import Iterator, Sequence

from rich.progress import Progress

from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.apis.prediction_writer import PredictionWriter, draw_item
from mmzeg.apis.video import VideoWriter, copy_sound, is_video, video_info


def segment_files(
    inferencer: ZeroShotInferencer, sources: Sequence[str | int], writer: PredictionWriter, **settings: object
) -> list[str]:
    """Segment images, videos and cameras, and write the predictions; prints a line per video.

    Args:
        inferencer (ZeroShotInferencer): The model.
        sources (Sequence[str | int]): Files and numbers of cameras.
        writer (PredictionWriter): Where to write what.
        settings: Of ``ZeroShotInferencer.stream``.

    Returns:
        list[str]: The errors of inputs that could not be segmented, one line each.

    Raises:
        OSError: The disk is full, or a file of an image cannot be written.
        ValueError: As in ``ZeroShotInferencer.stream``.
    """
    videos = [source for source in sources if isinstance(source, int) or is_video(source)]
    images = [source for source in sources if not isinstance(source, int) and not is_video(source)]
    errors = []
    if images:
        errors += segment_images(inferencer.stream(images, **settings), len(images), writer)
    for source in videos:
        try:
            notes = segment_video(inferencer.stream(source, **settings), source, writer)
            print('\n'.join(notes))
        except (OSError, ValueError) as error:
            # A full disk fails every other video, too.
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            errors.append(str(error))
    return errors


def segment_images(stream: Iterator[dict], num_images: int, writer: PredictionWriter) -> list[str]:
    """Write the predictions of a stream of images; returns the errors of those that could not be read.

    Args:
        stream (Iterator[dict]): Of ``ZeroShotInferencer.stream``.
        num_images (int): Length of the stream, for the progress bar.
        writer (PredictionWriter): Where to write what.
    """
    errors = []
    with Progress() as progress:
        for item in progress.track(stream, num_images, description='images'):
            if item['error'] is not None:
                errors.append(item['error'])
                continue
            stem = writer.unique_stem(item['input'])
            writer.write_drawing(stem, item)
            writer.write(stem, item)
    return errors


def segment_video(stream: Iterator[dict], source: str | int, writer: PredictionWriter) -> list[str]:
    """Write the predictions of a video, or of a camera until Ctrl-C.

    Args:
        stream (Iterator[dict]): Of ``ZeroShotInferencer.stream`` for ``source``.
        source (str | int): The video file, or the number of the camera.
        writer (PredictionWriter): Where to write what.

    Returns:
        list[str]: What was written, and what is missing from it.

    Raises:
        ValueError: A frame cannot be read or segmented.
        OSError: The video cannot be written, or the disk is full.
    """
    info = video_info(source)
    stem = writer.unique_stem(source)
    path = writer.folder / f'{stem}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    is_camera = isinstance(source, int)
    start = time.monotonic()
    num_frames = 0
    with VideoWriter(path, info.fps) as video:
        try:
            with Progress() as progress:
                for item in progress.track(stream, info.frames or None, description=path.name):
                    if item['error'] is not None:
                        raise ValueError(item['error'])
                    frame = draw_item(item, fixed_layout=True)[..., ::-1]
                    video.write(frame)
                    # A camera does not wait for the model: repeat the frame, so that the video runs in real time.
                    num_due = (time.monotonic() - start) * info.fps
                    while is_camera and video.num_frames < num_due:
                        video.write(frame)
                    writer.write(f'{stem}/{num_frames:06d}', item)
                    num_frames += 1
        except KeyboardInterrupt:
            if not is_camera or not video.num_frames:
                raise
    notes = [f'{path}: {num_frames} frames']
    if num_frames < info.frames:
        notes.append(f'{source}: its header says {info.frames} frames, of which {num_frames} could be read')
    if not is_camera and (reason := copy_sound(source, path)):
        notes.append(f'{path}: the sound, if there was any, is missing: {reason}')
    return notes
