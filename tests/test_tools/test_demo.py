"""The demo: the files that it writes for images and videos, and how it ends."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer, image_reading, segment_files
from mmzeg.apis.drawing import indexed_png, overlay
from mmzeg.apis.prediction_writer import PredictionWriter, save_file
from mmzeg.apis.video import VideoInfo, VideoWriter, frames, video_info
from mmzeg.class_names import parse_classes_option
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.utils.palette import palette

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer(CONFIG, device='cpu')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder of two images and a text, and a video of five frames."""
    root = tmp_path_factory.mktemp('data')
    (root / 'photos').mkdir()
    writer = cv2.VideoWriter(str(root / 'clip.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
    for number in range(5):
        image = draw_scene(Scene('test', number, 96))[0][:64]
        writer.write(np.ascontiguousarray(image[..., ::-1]))
        if number < 2:
            Image.fromarray(image).save(root / f'photos/{number}.png')
    writer.release()
    (root / 'photos/text.jpg').write_text('not an image')
    return root


@pytest.fixture
def run(inferencer, monkeypatch, capsys):
    """Runs the tool in this process; returns its exit code, stdout and stderr."""
    demo = load_tool('tools/demo.py')
    monkeypatch.setattr(demo, 'ZeroShotInferencer', lambda *args: inferencer)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['demo.py', str(CONFIG), 'weights.pth', *map(str, arguments)])
        code = 0
        try:
            demo.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_images_and_a_bad_file(run, data, inferencer, tmp_path):
    names = ['umbrella, parasol', 'grass', 'sky']
    out = tmp_path / 'a/out'
    code, _, errors = run(
        data / 'photos', '--classes', 'umbrella, parasol; grass;sky;', '--seen', 'grass', '--mode', 'img',
        '--out', out, '--save-masks', '--segments', '--batch-size', 2,
    )  # fmt: skip
    assert code == 1 and 'text.jpg: truncated or not an image' in errors and '1 of 3 inputs' in errors
    assert list_files(out) == [
        '0.jpg', '1.jpg', 'masks/0.png', 'masks/1.png', 'masks/classes.json', 'segments/0.json', 'segments/1.json',
    ]  # fmt: skip
    assert json.loads((out / 'masks/classes.json').read_text()) == dict(zip('012', names, strict=True))
    # The label map.
    settings = dict(classes=names, seen=['grass'], mode='img', batch_size=2)
    expected = inferencer(data / 'photos', **settings)['predictions'][1]
    mask = Image.open(out / 'masks/1.png')
    assert mask.mode == 'P' and np.array_equal(np.asarray(mask), expected['label_map'])
    assert np.array_equal(np.asarray(mask.convert('RGB')), palette(3)[expected['label_map']])
    # The drawing.
    image = np.asarray(Image.open(data / 'photos/1.png'))
    drawing = np.asarray(Image.open(out / '1.jpg'))
    expected_drawing = overlay(image, expected['label_map'], names, ['umbrella, parasol', 'sky'])
    assert drawing.shape == expected_drawing.shape and np.abs(drawing.astype(int) - expected_drawing).mean() < 4
    # The segments.
    written = json.loads((out / 'segments/1.json').read_text())
    assert (written['height'], written['width']) == (64, 96) and written['input'].endswith('1.png')
    label_map = np.full((64, 96), -1)
    for segment, expected_segment in zip(written['segments'], expected['segments'], strict=True):
        segment_mask = coco_mask.decode(segment['segmentation']).astype(bool)
        label_map[segment_mask] = names.index(segment['name'])
        assert segment_mask.sum() == segment['area'] == expected_segment['area']
        assert segment['box'] == expected_segment['box']
        assert segment['score'] == pytest.approx(expected_segment['score'], abs=1e-6)
    assert np.array_equal(label_map, expected['label_map'])


def test_video_frame_by_frame(run, data, inferencer, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    code, output, _ = run(data / 'clip.mp4', '--out', tmp_path, '--mode', 'seg', '--save-masks', '--segments')
    assert code == 0 and 'clip.mp4: 5 frames' in output and 'the sound, if there was any, is missing' in output
    assert video_info(tmp_path / 'clip.mp4')[:2] == (10, 5)
    masks = [np.asarray(Image.open(tmp_path / f'masks/clip/{number:06d}.png')) for number in range(5)]
    for mask, frame in zip(masks, frames(data / 'clip.mp4'), strict=True):
        assert np.array_equal(mask, inferencer(frame, mode='seg')['predictions'][0]['label_map'])
    segments = json.loads((tmp_path / 'segments/clip/000003.json').read_text())
    assert segments['input'].endswith('clip.mp4#3')
    assert list_files(tmp_path)[0] == 'clip.mp4' and len(list_files(tmp_path)) == 1 + 6 + 5


def test_inputs_that_cannot_be_read(run, data, tmp_path):
    (tmp_path / 'text.mp4').write_text('not a video')
    bad = [tmp_path / 'text.mp4', data / 'photos/text.jpg']
    code, _, errors = run(*bad, '--out', tmp_path / 'out')
    assert code == 1 and '2 of 2 inputs' in errors and 'text.mp4: no frame can be read' in errors
    assert not list_files(tmp_path / 'out')
    code, _, errors = run(*bad, data / 'clip.mp4', data / 'photos/0.png', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 1 and list_files(tmp_path / 'out') == ['0.jpg', 'clip.mp4']


def test_camera_until_ctrl_c(run, tmp_path, monkeypatch):
    def camera(source):
        assert source == 0
        yield from (np.full((32, 48, 3), 40 * number, np.uint8) for number in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(image_reading, 'frames', camera)
    monkeypatch.setattr(segment_files, 'video_info', lambda source: VideoInfo(30.0, 0, (32, 48)))
    code, output, _ = run('0', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 0 and 'camera0.mp4: 3 frames' in output and list_files(tmp_path / 'out') == ['camera0.mp4']
    # A frame is repeated if segmenting the next one takes longer than a frame lasts.
    assert len(list(frames(tmp_path / 'out/camera0.mp4'))) >= 3


def test_a_camera_ends_if_writing_takes_longer_than_a_frame_lasts(tmp_path, monkeypatch, inferencer):
    clock = iter(range(9))
    monkeypatch.setattr(segment_files, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(image_reading, 'frames', lambda source: iter([np.zeros((32, 48, 3), np.uint8)] * 2))
    monkeypatch.setattr(segment_files, 'video_info', lambda source: VideoInfo(10.0, 0, (32, 48)))
    segment_files.segment_video(inferencer.stream(0, mode='seg'), 0, PredictionWriter(tmp_path))
    assert len(list(frames(tmp_path / 'camera0.mp4'))) == 20


def test_a_video_that_cannot_be_written_does_not_stop_others(run, data, tmp_path, monkeypatch):
    def write(self, frame):
        if self.path.stem == 'first':
            raise OSError('first.mp4: OpenCV cannot write mp4 here')
        original_write(self, frame)

    original_write = VideoWriter.write
    monkeypatch.setattr(VideoWriter, 'write', write)
    for name in ('first', 'second'):
        shutil.copy(data / 'clip.mp4', tmp_path / f'{name}.mp4')
    code, _, errors = run(tmp_path / 'first.mp4', tmp_path / 'second.mp4', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 1 and 'cannot write mp4 here' in errors and list_files(tmp_path / 'out') == ['second.mp4']


def test_ctrl_c_in_a_video(run, data, tmp_path, monkeypatch):
    def interrupted(source):
        yield from (np.full((32, 48, 3), 40 * number, np.uint8) for number in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(image_reading, 'frames', interrupted)
    code, _, errors = run(data / 'clip.mp4', '--mode', 'seg', '--out', tmp_path)
    assert code == 130 and errors.strip() == 'mmzeg: stopped' and not list_files(tmp_path)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--classes', 'cat, dog, sofa'], "put ';' between classes"),
        (['--classes', ' ; '], 'the vocabulary is empty'),
        (['--classes', 'cat; cat'], 'cat'),
        (['--classes', 'gone.txt'], 'gone.txt'),
        (['--classes', 'cat; dog', '--seen', 'cow'], "'cow' is listed in seen"),
        (['--classes', 'cat; dog', '--mode', 'most'], 'most'),
        (['--batch-size', '0'], 'batch_size must be 1 or more'),
        (['gone.jpg'], 'gone.jpg: no such file'),
        (['--out', 'result.jpg'], '--out result.jpg: give a folder'),
        (['--out', 'photos'], '0.png is in this folder'),
        (['--out', 'photos/0.png/out'], 'Not a directory'),
    ],
)
def test_wrong_arguments_end_in_one_line(run, data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(data)
    out = () if '--out' in arguments else ('--out', tmp_path / 'out')
    code, _, errors = run('photos', *arguments, *out)
    assert code == 2 and message in errors and errors.startswith('mmzeg: error: ') and errors.count('\n') == 1
    assert not (tmp_path / 'out').is_dir() or not list_files(tmp_path / 'out')


def test_full_disk_names_the_file(run, data, tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    code, _, errors = run(data / 'photos/0.png', '--mode', 'seg', '--out', tmp_path)
    assert code == 2 and errors.count('\n') == 1
    assert 'No space left on device' in errors and str(tmp_path / '0.jpg') in errors and not list_files(tmp_path)


def test_class_names_from_files(tmp_path):
    text_file = tmp_path / 'classes.txt'
    text_file.write_text('cat, kitten\ndog\n')
    assert parse_classes_option(str(text_file), None) == dict(classes=['cat, kitten', 'dog'], seen=None)
    json_file = tmp_path / 'classes.json'
    json_file.write_text(json.dumps(dict(seen=['dog'], unseen=['cat'])))
    assert parse_classes_option(str(json_file), None) == dict(classes=['dog', 'cat'], seen=['dog'])
    assert parse_classes_option(str(json_file), []) == dict(classes=['dog', 'cat'], seen=[])
    assert parse_classes_option(None, None) == dict(classes=None, seen=None)


@pytest.mark.parametrize('num_classes, mode', [(256, 'P'), (257, 'I;16')])
def test_label_maps_of_any_number_of_classes(tmp_path, num_classes, mode):
    label_map = np.arange(num_classes)[None].repeat(2, 0)
    path = tmp_path / 'mask.png'
    save_file(path, indexed_png(label_map, num_classes))
    image = Image.open(path)
    assert image.mode == mode and np.array_equal(np.asarray(image), label_map)


def test_inputs_with_the_same_stem(tmp_path):
    writer = PredictionWriter(tmp_path)
    sources = ('x/a.png', 'y/a.jpg', 'A.webp', 0)
    assert [writer.unique_stem(source) for source in sources] == ['a', 'a-2', 'A-3', 'camera0']


def test_inputs_of_subfolders_keep_them(tmp_path):
    """They were 0000, 0001 and 0000-2: nobody could tell which was which."""
    sources = ['in/seq0/0000.jpg', 'in/seq0/0001.jpg', 'in/seq1/0000.jpg', 'in/seq1/0000.png']
    writer = PredictionWriter(tmp_path, sources=sources)
    assert [writer.unique_stem(source) for source in sources] == ['seq0/0000', '0001', 'seq1/0000', 'seq1/0000-2']


def test_overlay_of_a_video_has_the_same_width_for_every_frame():
    image = np.zeros((100, 100, 3), np.uint8)
    shapes = set()
    for label in range(3):
        label_map = np.full((100, 100), label)
        shapes.add(overlay(image, label_map, ['a', 'long name', 'b'], ['a'], fixed_layout=True).shape)
    assert len(shapes) == 1
