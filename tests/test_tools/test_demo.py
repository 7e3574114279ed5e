"""The demo: what it writes of pictures and videos, and how it ends."""

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

from mmzeg.apis import ZeroShotInferencer, pictures
from mmzeg.class_names import parse_classes_option
from mmzeg.apis.drawing import indexed_png, overlay, palette
from mmzeg.apis.video import VideoInfo, frames, video_info
from mmzeg.datasets.world import Scene, draw_scene

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
sys.path.insert(0, str(ROOT / 'tools'))
import demo  # noqa: E402


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer(CONFIG, device='cpu')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder of two pictures and a text, and a video of five frames."""
    root = tmp_path_factory.mktemp('data')
    (root / 'photos').mkdir()
    writer = cv2.VideoWriter(str(root / 'clip.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
    for number in range(5):
        picture = draw_scene(Scene('test', number, 96))[0][:64]
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
        if number < 2:
            Image.fromarray(picture).save(root / f'photos/{number}.png')
    writer.release()
    (root / 'photos/text.jpg').write_text('no picture')
    return root


@pytest.fixture
def run(inferencer, monkeypatch, capsys):
    """Run the tool in this process; its exit code, stdout and stderr."""
    monkeypatch.setattr(demo, 'ZeroShotInferencer', lambda *args: inferencer)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['demo.py', str(CONFIG), 'some.pth', *map(str, arguments)])
        code = 0
        try:
            demo.main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_pictures_with_one_bad_among_them(run, data, inferencer, tmp_path):
    names = ['umbrella, parasol', 'grass', 'sky']
    out = tmp_path / 'a/out'
    code, _, said = run(
        data / 'photos', '--classes', 'umbrella, parasol; grass;sky;', '--seen', 'grass', '--mode', 'img',
        '--out', out, '--save-masks', '--segments', '--batch-size', 2,
    )  # fmt: skip
    assert code == 1 and 'text.jpg: not a whole picture' in said and '1 of 3 inputs' in said
    assert files(out) == [
        '0.jpg', '1.jpg', 'masks/0.png', 'masks/1.png', 'masks/classes.json', 'segments/0.json', 'segments/1.json',
    ]  # fmt: skip
    assert json.loads((out / 'masks/classes.json').read_text()) == dict(zip('012', names, strict=True))
    given = dict(classes=names, seen=['grass'], mode='img', batch_size=2)
    expected = inferencer(data / 'photos', **given)['predictions'][1]
    mask = Image.open(out / 'masks/1.png')
    assert mask.mode == 'P' and np.array_equal(np.asarray(mask), expected['label_map'])
    picture = np.asarray(Image.open(data / 'photos/1.png'))
    coloured = np.asarray(mask.convert('RGB'))
    assert np.array_equal(coloured, palette(3)[expected['label_map']])
    drawn = np.asarray(Image.open(out / '1.jpg'))
    wanted = overlay(picture, expected['label_map'], names, ['umbrella, parasol', 'sky'])
    assert drawn.shape == wanted.shape and np.abs(drawn.astype(int) - wanted).mean() < 4
    written = json.loads((out / 'segments/1.json').read_text())
    assert (written['height'], written['width']) == (64, 96) and written['input'].endswith('1.png')
    label_map = np.full((64, 96), -1)
    for segment, other in zip(written['segments'], expected['segments'], strict=True):
        inside = coco_mask.decode(segment['segmentation']).astype(bool)
        label_map[inside] = names.index(segment['name'])
        assert inside.sum() == segment['area'] == other['area'] and segment['box'] == other['box']
        assert segment['score'] == pytest.approx(other['score'], abs=1e-6)
    assert np.array_equal(label_map, expected['label_map'])


def test_video_frame_by_frame(run, data, inferencer, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    code, said, _ = run(data / 'clip.mp4', '--out', tmp_path, '--mode', 'seg', '--save-masks', '--segments')
    assert code == 0 and 'clip.mp4: 5 frames' in said and 'the sound, if there was one, was left out' in said
    assert video_info(tmp_path / 'clip.mp4')[:2] == (10, 5)
    masks = [np.asarray(Image.open(tmp_path / f'masks/clip/{number:06d}.png')) for number in range(5)]
    for mask, frame in zip(masks, frames(data / 'clip.mp4'), strict=True):
        assert np.array_equal(mask, inferencer(frame, mode='seg')['predictions'][0]['label_map'])
    segments = json.loads((tmp_path / 'segments/clip/000003.json').read_text())
    assert segments['input'].endswith('clip.mp4#3')
    assert files(tmp_path)[0] == 'clip.mp4' and len(files(tmp_path)) == 1 + 6 + 5


def test_inputs_that_cannot_be_read(run, data, tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    bad = [tmp_path / 'text.mp4', data / 'photos/text.jpg']
    code, _, said = run(*bad, '--out', tmp_path / 'out')
    assert code == 1 and '2 of 2 inputs' in said and 'text.mp4: no frame can be read' in said
    assert not files(tmp_path / 'out')
    code, _, said = run(*bad, data / 'clip.mp4', data / 'photos/0.png', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 1 and files(tmp_path / 'out') == ['0.jpg', 'clip.mp4']


def test_camera_until_ctrl_c(run, tmp_path, monkeypatch):
    def camera(source):
        assert source == 0
        yield from (np.full((32, 48, 3), 40 * number, np.uint8) for number in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, 'frames', camera)
    monkeypatch.setattr(demo, 'video_info', lambda source: VideoInfo(30.0, 0, (32, 48)))
    code, said, _ = run('0', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 0 and 'camera0.mp4: 3 frames' in said and files(tmp_path / 'out') == ['camera0.mp4']
    # Frames are repeated where naming them took longer than they last.
    assert len(list(frames(tmp_path / 'out/camera0.mp4'))) >= 3


def test_a_camera_ends_where_writing_takes_longer_than_a_frame_lasts(tmp_path, monkeypatch, inferencer):
    clock = iter(range(9))
    monkeypatch.setattr(demo, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(pictures, 'frames', lambda source: iter([np.zeros((32, 48, 3), np.uint8)] * 2))
    monkeypatch.setattr(demo, 'video_info', lambda source: VideoInfo(10.0, 0, (32, 48)))
    demo.segment_video(inferencer.stream(0, mode='seg'), 0, demo.Output(tmp_path, False, False))
    assert len(list(frames(tmp_path / 'camera0.mp4'))) == 20


def test_a_video_that_cannot_be_written_does_not_keep_others_from_it(run, data, tmp_path, monkeypatch):
    def write(self, frame):
        if self.path.stem == 'one':
            raise OSError('one.mp4: OpenCV cannot write mp4 here')
        own(self, frame)

    own = demo.VideoWriter.write
    monkeypatch.setattr(demo.VideoWriter, 'write', write)
    for name in ('one', 'other'):
        shutil.copy(data / 'clip.mp4', tmp_path / f'{name}.mp4')
    code, _, said = run(tmp_path / 'one.mp4', tmp_path / 'other.mp4', '--mode', 'seg', '--out', tmp_path / 'out')
    assert code == 1 and 'cannot write mp4 here' in said and files(tmp_path / 'out') == ['other.mp4']


def test_ctrl_c_in_a_video(run, data, tmp_path, monkeypatch):
    def stopped(source):
        yield from (np.full((32, 48, 3), 40 * number, np.uint8) for number in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, 'frames', stopped)
    code, _, said = run(data / 'clip.mp4', '--mode', 'seg', '--out', tmp_path)
    assert code == 130 and said.strip() == 'mmzeg: stopped' and not files(tmp_path)


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
    code, _, said = run('photos', *arguments, *out)
    assert code == 2 and message in said and said.startswith('mmzeg: error: ') and said.count('\n') == 1
    assert not (tmp_path / 'out').is_dir() or not files(tmp_path / 'out')


def test_full_disk_names_the_file(run, data, tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    code, _, said = run(data / 'photos/0.png', '--mode', 'seg', '--out', tmp_path)
    assert code == 2 and said.count('\n') == 1
    assert 'No space left on device' in said and str(tmp_path / '0.jpg') in said and not files(tmp_path)


def test_names_from_files(tmp_path):
    listed = tmp_path / 'classes.txt'
    listed.write_text('cat, kitten\ndog\n')
    assert parse_classes_option(str(listed), None) == dict(classes=['cat, kitten', 'dog'], seen=None)
    split = tmp_path / 'classes.json'
    split.write_text(json.dumps(dict(seen=['dog'], unseen=['cat'])))
    assert parse_classes_option(str(split), None) == dict(classes=['dog', 'cat'], seen=['dog'])
    assert parse_classes_option(str(split), []) == dict(classes=['dog', 'cat'], seen=[])
    assert parse_classes_option(None, None) == dict(classes=None, seen=None)


@pytest.mark.parametrize('count, mode', [(256, 'P'), (257, 'I;16')])
def test_label_maps_of_any_count(tmp_path, count, mode):
    label_map = np.arange(count)[None].repeat(2, 0)
    path = tmp_path / 'mask.png'
    demo.save(path, indexed_png(label_map, count))
    image = Image.open(path)
    assert image.mode == mode and np.array_equal(np.asarray(image), label_map)


def test_inputs_of_one_name(tmp_path):
    output = demo.Output(tmp_path, False, False)
    assert [output.name(name) for name in ('x/a.png', 'y/a.jpg', 'A.webp', 0)] == ['a', 'a-2', 'A-3', 'camera0']


def test_overlay_of_a_video_has_one_width():
    picture = np.zeros((100, 100, 3), np.uint8)
    shapes = set()
    for label in range(3):
        label_map = np.full((100, 100), label)
        shapes.add(overlay(picture, label_map, ['a', 'long name', 'b'], ['a'], steady=True).shape)
    assert len(shapes) == 1
