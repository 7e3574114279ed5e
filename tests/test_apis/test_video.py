"""Videos: frames that are read, and files that are complete or do not exist."""

import multiprocessing
import os
import signal

import cv2
import numpy as np
import pytest

from mmzeg.apis import video
from mmzeg.apis.video import VideoWriter, copy_sound, frames, is_video, video_info


def grey(number, shape=(32, 48)):
    return np.full((*shape, 3), 20 * number, np.uint8)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (48, 32))
    for number in range(7):
        writer.write(grey(number))
    writer.release()
    return path


def test_frames_in_order_one_at_a_time(clip):
    assert video_info(clip) == (12.5, 7, (32, 48))
    clip_frames = list(frames(str(clip)))
    assert [frame.shape for frame in clip_frames] == [(32, 48, 3)] * 7
    np.testing.assert_allclose([frame.mean() for frame in clip_frames], 20 * np.arange(7), atol=2)


def test_capture_is_released(clip, monkeypatch):
    captures = []

    class Capture:
        def __init__(self, source):
            self.capture = cv2_capture(source)
            self.is_open = True
            captures.append(self)

        def read(self):
            return self.capture.read()

        def release(self):
            self.is_open = False

    cv2_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', Capture)
    stream = frames(clip)
    next(stream)
    assert captures[0].is_open
    stream.close()
    assert not captures[0].is_open
    assert len(list(frames(clip))) == 7 and not captures[1].is_open


def test_no_frame(tmp_path):
    path = tmp_path / 'empty.mp4'
    path.touch()
    for call in (video_info, lambda source: next(frames(source))):
        with pytest.raises(ValueError, match=r'empty\.mp4: no frame can be read'):
            call(path)
        with pytest.raises(FileNotFoundError, match=r'gone\.mp4: no such file'):
            call(tmp_path / 'gone.mp4')
    with pytest.raises(ValueError, match='camera 93: no frame can be read'):
        next(frames(93))


def test_videos_by_name():
    assert is_video('a.MP4') and is_video('b/c.webm') and not is_video('mp4') and not is_video('a.gif')


def test_partial_name_until_the_file_is_complete(tmp_path):
    path = tmp_path / 'new.mp4'
    with VideoWriter(path, 12.5) as writer:
        for number in range(5):
            writer.write(grey(number, (33, 47)))
        assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == [path]
    # An odd side gets one line of pixels more.
    assert video_info(path) == (12.5, 5, (34, 48))
    np.testing.assert_allclose([frame.mean() for frame in frames(path)], 20 * np.arange(5), atol=3)


@pytest.mark.parametrize('fps', [23.976, 90.123, 119.437, 239.761, 999.99])
def test_any_frame_rate(tmp_path, fps):
    with VideoWriter(tmp_path / 'new.mp4', fps) as writer:
        writer.write(grey(1))
    assert video_info(tmp_path / 'new.mp4').fps == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_an_older_file_is_kept_after_an_error(tmp_path, error):
    path = tmp_path / 'new.mp4'
    path.write_text('older')
    with pytest.raises(error), VideoWriter(path, 12.5) as writer:
        writer.write(grey(1))
        raise error
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == 'older'


def test_no_frames_no_file(tmp_path):
    with VideoWriter(tmp_path / 'new.mp4', 12.5):
        pass
    assert not list(tmp_path.iterdir())


def test_bad_suffix_folder_and_frame(tmp_path):
    with pytest.raises(ValueError, match='are written as .mp4'):
        VideoWriter(tmp_path / 'new.avi', 25)
    with pytest.raises(FileNotFoundError):
        VideoWriter(tmp_path / 'gone/new.mp4', 25)
    with pytest.raises(ValueError, match='after frames of'), VideoWriter(tmp_path / 'new.mp4', 25) as writer:
        writer.write(grey(1))
        writer.write(grey(1, (64, 64)))
    assert not list(tmp_path.iterdir())


def test_full_disk_is_noticed_before_and_after_writing(tmp_path, monkeypatch):
    path = tmp_path / 'new.mp4'
    with monkeypatch.context() as patch:
        patch.setattr(video, 'MIN_FREE_BYTES', 2**62)
        with pytest.raises(OSError, match=r'No space left.*new\.mp4'), VideoWriter(path, 25) as writer:
            writer.write(grey(1))
    with pytest.raises(OSError, match=r'new\.mp4: 0 of 3 frames are in the file'), VideoWriter(path, 25) as writer:
        for number in range(3):
            writer.write(grey(number))
        # As if the disk filled up without OpenCV's noticing.
        writer._writer.release()
        os.truncate(writer.partial, 100)
    assert not list(tmp_path.iterdir())


def test_sound_by_ffmpeg_or_why_not(clip, tmp_path, monkeypatch):
    path, programs = tmp_path / 'new.mp4', tmp_path / 'bin'
    path.write_text('silent')
    programs.mkdir()
    monkeypatch.setenv('PATH', str(programs))
    assert 'not installed' in copy_sound(clip, path) and path.read_text() == 'silent'
    ffmpeg = programs / 'ffmpeg'
    ffmpeg.write_text('#!/bin/sh\nfor last; do :; done\necho half > "$last"\necho no such codec >&2\nexit 1\n')
    ffmpeg.chmod(0o755)
    assert copy_sound(clip, path) == 'no such codec' and path.read_text() == 'silent'
    ffmpeg.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\n')
    assert copy_sound(clip, path) is None
    assert f'-i {path} -i {clip} -map 0:v -map 1:a? -c copy' in path.read_text()
    assert sorted(tmp_path.iterdir()) == sorted([clip, path, programs])


def write_until_killed(path):
    with VideoWriter(path, 25) as writer:
        for number in range(10):
            writer.write(grey(number))
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_leaves_no_file(tmp_path):
    """A killed process cleans up nothing; the next run does."""
    path = tmp_path / 'new.mp4'
    child = multiprocessing.get_context('fork').Process(target=write_until_killed, args=(path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL and not path.exists()
    with VideoWriter(path, 25) as writer:
        writer.write(grey(1))
    assert list(tmp_path.iterdir()) == [path]
