"""Bad input to the inferencer: an error of one line, a warning, or a prediction all the same."""

import io
import os
import resource
import struct
import sys
import zlib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer, image_reading
from mmzeg.models.fusion import ScoreFusion
from mmzeg.utils import image_decoding
from mmzeg.utils.image_decoding import read_image

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
IMAGE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """A cache folder that cannot be created: a file has its name."""
    (tmp_path_factory.mktemp('cache') / 'file').touch()
    return tmp_path_factory.getbasetemp() / 'cache0' / 'file' / 'cache'


@pytest.fixture(scope='module')
def inferencer(cache):
    """Without a scorer, and with one prompt per class: thousands of classes are quick."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.scorer, cfg.model.fusion.mode = None, 'seg'
    classifier = cfg.model.decode_head.classifier
    classifier.test_prompts, classifier.text_encoder.cache_dir = 'single', str(cache)
    torch.manual_seed(0)
    return ZeroShotInferencer(cfg, device='cpu')


@pytest.fixture
def warnings(monkeypatch):
    """The warnings about class names, each of which is logged once per process."""
    lines = []
    monkeypatch.setattr('mmzeg.clip.tokenizer.print_log', lambda text, *_: lines.append(text))
    monkeypatch.setattr('mmzeg.clip.tokenizer._warned', set())
    return lines


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(classes=['cat', 3]), 'a class name must be a non-empty string, got 3'),
        (dict(classes=['cat', ' ']), "a class name must be a non-empty string, got ' '"),
        (dict(classes=3), 'classes must be a list of class names, got 3'),
        (dict(classes=['cat\n']), r"class 'cat\\n' has a line break or a control character: remove it"),
        (dict(classes=['cat\0']), r"class 'cat\\x00' has a line break or a control character"),
        (dict(classes=['\ud83d']), r"class '\\ud83d' has a line break or a control character"),
        (dict(seen='sky'), "seen must be a list of class names, got 'sky'"),
        (dict(seen=3), 'seen must be a list of class names, got 3'),
        (dict(seen=[['sky']]), r"seen: a class name must be a non-empty string, got \['sky'\]"),
        (dict(seen=['sky', 'sky']), "class 'sky' is listed twice in seen"),
        (dict(gamma=float('nan')), 'gamma must be 0 or more, and finite, got nan'),
        (dict(lam=float('nan')), r'lam must lie in \[0, 1\], got nan'),
        (dict(lam='0.5'), r'lam must lie in \[0, 1\], got 0.5'),
    ],
)
def test_bad_arguments(inferencer, fields, message):
    with pytest.raises(ValueError, match=message) as raised:
        inferencer(IMAGE, **fields)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('gamma', [float('nan'), float('inf'), 1e300, None, '0.1'])
def test_gamma_is_a_finite_number(gamma):
    with pytest.raises(ValueError, match='gamma must be 0 or more, and finite'):
        ScoreFusion(gamma=gamma)
    assert ScoreFusion(gamma=np.float32(0.5)).gamma == 0.5


def test_class_names_that_clip_truncates(inferencer, warnings):
    names = ['sky', ' '.join(['word'] * 400), 'x' * 3000, f'dog, {"very " * 30}long dog', 'maltese cross']
    for seen in (None, []):  # the second call reads cached embeddings
        assert inferencer(IMAGE, classes=names, seen=seen)['errors'] == []
    assert len(warnings) == 3 and all(len(line) < 140 for line in warnings)
    assert warnings[0].startswith("class 'word word word word word word word wo...': 4")
    assert 'tokens with its prompt, and CLIP reads the first 22: shorten it' in warnings[0]
    inferencer(IMAGE, classes=[*names, 'sun'])
    assert len(warnings) == 3


def test_only_truncated_class_names_are_warned_of(inferencer, warnings):
    """A class name of as many tokens as CLIP reads, and one of one token more."""
    clip = inferencer.model.decode_head.classifier.text_encoder
    limit = clip.context_length - 2
    fitting, truncated = (' '.join(['dog'] * count) for count in (limit, limit + 1))
    embeddings = clip.text_embeddings([fitting, truncated], ['{}'])
    assert [line.split(': ')[1].split()[0] for line in warnings] == [str(limit + 1)]
    assert torch.allclose(embeddings[0], embeddings[1], atol=1e-6)


def test_class_names_that_are_not_english(inferencer, warnings):
    names = ['猫', 'dog, собака', '🐱', 'café', "l'œuf – Ærø", 'sky']
    (prediction,) = inferencer(IMAGE, classes=names)['predictions']
    assert prediction['classes'] == names
    assert [line.split(':')[0] for line in warnings] == [f'class {name!r}' for name in names[:3]]
    assert 'not all Latin letters, and this CLIP knows English' in warnings[0]


def test_5000_classes(inferencer):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    names = [f'thing {number}' for number in range(5000)]
    (prediction,) = inferencer(IMAGE, classes=names)['predictions']
    assert prediction['label_map'].shape == (32, 48) and len(prediction['unseen']) == 5000
    if sys.platform == 'linux':
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kB


def test_cache_folder_that_cannot_be_written(inferencer, cache, monkeypatch):
    lines = []
    monkeypatch.setattr('mmzeg.clip.text_cache.print_log', lambda text, *_: lines.append(text))
    monkeypatch.setattr('mmzeg.clip.text_cache._warned', set())
    assert inferencer(IMAGE, classes=['sky', 'a cached thing'])['errors'] == []
    assert inferencer(IMAGE, classes=['sky', 'another cached thing'])['errors'] == []
    assert len(lines) == 1 and str(cache) in lines[0] and 'set MMZEG_CACHE to a folder that can be written' in lines[0]


def test_weights_of_another_config(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'decode_head.conv_seg.weight': torch.zeros(3)}), path)
    with pytest.raises(ValueError, match='the checkpoint lacks .* weights, .* it is of another model'):
        ZeroShotInferencer(CONFIG, path, device='cpu')
    for content in (path.read_bytes()[:-300], b'no weights', b''):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='other.pth: truncated or not a checkpoint; download it again$'):
            ZeroShotInferencer(CONFIG, path, device='cpu')


@pytest.mark.parametrize('size', [(3000, 1), (1, 3000), (2, 2)])
def test_narrow_images(inferencer, size):
    (prediction,) = inferencer(np.zeros((*size, 3), np.uint8))['predictions']
    assert prediction['label_map'].shape == size


def test_400_million_pixels_are_refused_before_they_are_read(inferencer, tmp_path):
    array = np.broadcast_to(np.uint8(9), (20000, 20000, 3))  # needs no memory
    (tmp_path / 'big.png').write_bytes(png(20000, 20000))
    result = inferencer([array, tmp_path / 'big.png', IMAGE])
    assert [error['place'] for error in result['errors']] == [0, 1] and result['predictions'][2] is not None
    assert 'an image of 20000 x 20000 is too large' in result['errors'][0]['error']
    assert 'big.png: too large' in result['errors'][1]['error']


def test_bomb(inferencer, tmp_path):
    """A file that Pillow reads, and that is too large for the network: 2 kB, 12 million pixels."""
    (tmp_path / 'bomb.png').write_bytes(png(4000, 3000))
    assert (tmp_path / 'bomb.png').stat().st_size < 2**12
    (error,) = inferencer(tmp_path / 'bomb.png')['errors']
    assert 'bomb.png: an image of 4000 x 3000 would reach the network with more than' in error['error']


def png(width, height):
    """A black PNG of 1 bit per pixel."""
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)), (b'IDAT', pixels), (b'IEND', b'')]
    content = b'\x89PNG\r\n\x1a\n'
    for kind, data in chunks:
        content += struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return content


@pytest.mark.parametrize('given', [None, 1.5, b'bytes', {}, np.int64(3), True], ids=str)
def test_inputs_that_are_no_images(inferencer, given):
    (error,) = inferencer([IMAGE, given])['errors']
    assert error['place'] == 1 and f'{type(given).__name__} is not an image' in error['error']


@pytest.mark.parametrize('name', ['', 'a\0b.png', 'n' * 5000])
def test_files_that_do_not_exist(inferencer, name):
    (error,) = inferencer([IMAGE, name])['errors']
    assert error['error'].endswith(': no such file')


@pytest.mark.parametrize('shape', [(0, 5, 3), (5, 0, 3), (0, 0), (5, 5, 0)])
def test_arrays_without_pixels(inferencer, shape):
    (error,) = inferencer(np.zeros(shape, np.uint8))['errors']
    assert 'give (H, W, 3) or (H, W) uint8, BGR' in error['error']


def test_images_without_pixels_of_floats_and_truncated(inferencer):
    stream = io.BytesIO()
    Image.fromarray(IMAGE).save(stream, 'PNG')
    truncated = Image.open(io.BytesIO(stream.getvalue()[:400]))
    result = inferencer([Image.new('RGB', (0, 4)), Image.fromarray(np.zeros((4, 4), np.float32)), truncated])
    first, second, third = (error['error'] for error in result['errors'])
    assert 'a PIL image: cannot be read (an image of 0 x 4 has no pixels)' in first
    assert '32-bit floating point: convert it to 8 bits' in second
    assert 'a PIL image: truncated or not an image' in third


def test_heic(tmp_path, monkeypatch):
    path = tmp_path / 'phone.jpg'  # by its content, not its name
    path.write_bytes(b'\0\0\0\x1cftypheic' + bytes(100))
    monkeypatch.setattr(image_decoding, 'HEIC_READER', False)
    with pytest.raises(ValueError, match='phone.jpg: HEIC, .* pip install pillow-heif, or convert it'):
        read_image(path)


def test_heic_is_read_where_there_is_a_reader(tmp_path):
    Image.new('RGB', (64, 48), (10, 200, 30)).save(tmp_path / 'phone.heic')
    image = read_image(tmp_path / 'phone.heic')
    assert image.shape == (48, 64, 3) and np.abs(image.astype(int) - (10, 200, 30)).max() < 6
    assert image_reading.expand_inputs(tmp_path) == [str(tmp_path / 'phone.heic')]


def test_formats_that_pillow_only_writes_are_no_images_of_a_folder(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / 'scan.pdf')
    Image.fromarray(IMAGE).save(tmp_path / 'camera.mpo', save_all=True)
    assert image_reading.expand_inputs(tmp_path) == [str(tmp_path / 'camera.mpo')]
    assert read_image(tmp_path / 'camera.mpo').shape == (32, 48, 3)


def test_errors_of_decoders_of_any_kind(tmp_path, monkeypatch):
    Image.fromarray(IMAGE).save(tmp_path / 'a.png')
    for error in (struct.error('unpack\nrequires'), MemoryError(), IndexError('out of range')):
        monkeypatch.setattr(image_decoding, '_to_rgb', Mock(side_effect=error))
        with pytest.raises(ValueError, match='a.png: cannot be read .(unpack|MemoryError|out of range).$'):
            read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('content', [b'', b'text', os.urandom(999)], ids=['empty', 'text', 'noise'])
def test_videos_without_frames(inferencer, tmp_path, content):
    (tmp_path / 'a.mp4').write_bytes(content)
    (error,) = inferencer([tmp_path / 'a.mp4', IMAGE])['errors']
    assert 'a.mp4: no frame can be read' in error['error']


def test_fuzz_tool(monkeypatch, capsys):
    """Every input gets a prediction or an error; and a model that fails, or predicts nonsense, is reported."""
    fuzz = load_tool('tools/analysis_tools/fuzz.py')
    cfg = Config.fromfile(CONFIG)
    inferencer = ZeroShotInferencer(cfg, device='cpu')
    monkeypatch.setattr(fuzz, 'ZeroShotInferencer', lambda *_, **__: inferencer)
    monkeypatch.setattr(sys, 'argv', ['fuzz.py', str(CONFIG), '--number', '25'])
    with pytest.raises(SystemExit) as stopped:
        fuzz.main()
    output = capsys.readouterr().out
    assert stopped.value.code == 0 and '\n0 failures' in output
    assert output.startswith('25 inputs in') and 'predictions' in output

    def broken(image, **settings):
        if isinstance(image, np.ndarray) and image.shape == (32, 32, 3):  # the warm-up
            return None
        if settings['batch_size'] == 2:
            raise KeyError('two')
        return dict(errors=[], predictions=[dict(label_map=np.full((2, 2), 7), classes=['sky'])])

    monkeypatch.setattr(fuzz, 'ZeroShotInferencer', lambda *_, **__: broken)
    with pytest.raises(SystemExit) as stopped:
        fuzz.main()
    output = capsys.readouterr().out
    assert stopped.value.code == 1 and "KeyError: 'two'" in output and 'wrong: labels up to 7 of 1 classes' in output
    assert '\n25 failures' in output
