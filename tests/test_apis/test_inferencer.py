"""Any class names on any image: what a call returns, and the errors of bad input."""

import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.drawing import overlay
from mmzeg.apis.image_reading import expand_inputs
from mmzeg.datasets.world import SEEN, UNSEEN, Scene, draw_scene
from mmzeg.utils.image_decoding import read_image
from mmzeg.utils.palette import palette

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer(CONFIG, device='cpu')


@pytest.fixture(scope='module')
def scene():
    """BGR, as OpenCV reads it."""
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 96))[0][..., ::-1])


def test_equals_the_prediction_of_the_model(inferencer, scene):
    (prediction,) = inferencer(scene, return_scores=True)['predictions']
    data = inferencer.pipeline(dict(img=scene))
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(inferencer.collate_fn([data]))
    assert np.array_equal(prediction['label_map'], sample.pred_sem_seg.data[0].numpy())
    np.testing.assert_allclose(prediction['scores'], sample.seg_logits.data.numpy(), atol=1e-6)
    assert prediction['classes'] == [*SEEN, *UNSEEN]


def test_segments_cover_the_label_map(inferencer, scene):
    (prediction,) = inferencer(scene)['predictions']
    assert sum(segment['area'] for segment in prediction['segments']) == prediction['label_map'].size
    for label, name in enumerate(prediction['classes']):
        area = sum(segment['area'] for segment in prediction['segments'] if segment['name'] == name)
        assert area == (prediction['label_map'] == label).sum()
    for segment in prediction['segments']:
        x0, y0, x1, y1 = segment['box']
        assert 0 <= segment['score'] <= 1 and segment['area'] <= (x1 - x0 + 1) * (y1 - y0 + 1)


def test_other_class_names_at_a_call(inferencer, scene):
    default = inferencer.model.vocabulary
    names = ['umbrella, parasol', 'grass', 'lawn']
    prediction = inferencer(scene, classes=names, mode='img')['predictions'][0]
    assert prediction['classes'] == names and prediction['label_map'].max() <= 2
    assert inferencer.model.vocabulary is default and inferencer.model.fusion.mode == 'full'


def test_seen_classes_are_those_of_the_training_by_name(inferencer, scene):
    """Calibrated so strongly that no seen class is left."""
    names = ['grass', 'lawn']
    by_name = inferencer(scene, classes=names, gamma=9.0)['predictions'][0]['label_map']
    assert (by_name == 1).all()
    by_argument = inferencer(scene, classes=names, seen=['lawn'], gamma=9.0)['predictions'][0]['label_map']
    assert (by_argument == 0).all()


def test_batches_of_different_sizes_and_bad_files(inferencer, scene, tmp_path):
    Image.fromarray(scene[..., ::-1]).save(tmp_path / 'a.png')
    (tmp_path / 'b.jpg').write_text('not an image')
    wide = np.concatenate([scene, scene], 1)
    inputs = [tmp_path / 'a.png', tmp_path / 'b.jpg', wide, scene, 'gone.png']
    result = inferencer(inputs, batch_size=3, return_vis=True)
    predictions = result['predictions']
    shapes = [None if prediction is None else prediction['label_map'].shape for prediction in predictions]
    assert shapes == [(96, 96), None, (96, 192), (96, 96), None]
    assert np.array_equal(predictions[0]['label_map'], predictions[3]['label_map'])
    assert [error['place'] for error in result['errors']] == [1, 4]
    assert 'b.jpg: truncated or not an image (a format' in result['errors'][0]['error']
    assert 'gone.png: no such file' in result['errors'][1]['error']
    assert result['visualization'][1] is None and result['visualization'][2].shape[1] > 192


def test_calls_from_several_threads(inferencer, scene):
    vocabularies = [('grass', 'sky'), ('sand', 'gear', 'sun')]
    expected = {names: inferencer(scene, classes=list(names))['predictions'][0] for names in vocabularies}
    predictions = []

    def call(names):
        predictions.extend((names, inferencer(scene, classes=list(names))['predictions'][0]) for _ in range(3))

    threads = [threading.Thread(target=call, args=(names,)) for names in vocabularies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(predictions) == 6
    for names, prediction in predictions:
        assert prediction['classes'] == list(names)
        assert np.array_equal(prediction['label_map'], expected[names]['label_map'])


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(classes=[]), 'vocabulary is empty'),
        (dict(classes=['cat', 'cat']), "'cat' is listed twice"),
        (dict(classes='cat, dog'), 'give a list of names'),
        (dict(classes=['cat'], seen=['dog']), "'dog' is listed in seen but not among the classes"),
        (dict(mode='both'), "mode 'both' is unknown"),
        (dict(lam=2), r'lam must lie in \[0, 1\]'),
    ],
)
def test_bad_arguments(inferencer, scene, fields, message):
    with pytest.raises(ValueError, match=message):
        inferencer(scene, **fields)


def test_bad_model(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing: no such config file'):
        ZeroShotInferencer('nothing')
    with pytest.raises(FileNotFoundError, match='gone.pth: no such checkpoint'):
        ZeroShotInferencer(CONFIG, 'gone.pth')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='there is no GPU'):
            ZeroShotInferencer(CONFIG, device='cuda')
    with pytest.raises(ValueError, match='predicts no segments'):
        ZeroShotInferencer('per-pixel_r18_world')


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'LA', 'P', 'CMYK', 'I;16', '1'])
def test_images_of_every_mode(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 20).round().astype(np.uint8), (10, 1))
    if mode == 'I;16':
        file_image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        file_image = Image.fromarray(grey)
        file_image = (file_image if mode == 'P' else file_image.convert('RGB')).convert(mode)
    path = tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png')
    file_image.save(path)
    image = read_image(path)
    assert image.shape == (10, 20, 3) and image.dtype == np.uint8
    if mode != '1':
        assert np.abs(image.astype(int) - grey[..., None]).max() <= 3


def test_images_are_upright_first_frames_on_white(tmp_path):
    red_and_blue = Image.new('RGB', (4, 2), 'red')
    red_and_blue.paste('blue', (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    red_and_blue.save(tmp_path / 'a.png', exif=exif)
    image = read_image(tmp_path / 'a.png')
    assert image.shape == (4, 2, 3) and image[0, 0].tolist() == [0, 0, 255] and image[3, 0].tolist() == [255, 0, 0]
    red_and_blue.save(tmp_path / 'a.gif', save_all=True, append_images=[Image.new('RGB', (4, 2), 'green')])
    assert read_image(tmp_path / 'a.gif')[0, 3].tolist() == [255, 0, 0]
    assert read_image(Image.new('RGBA', (2, 2), (0, 0, 0, 0))).min() == 255


def test_bad_images(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'half.jpg')
    content = (tmp_path / 'half.jpg').read_bytes()
    (tmp_path / 'half.jpg').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='half.jpg: truncated or not an image .*truncated'):
        read_image(tmp_path / 'half.jpg')
    for array in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match='give .H, W, 3.'):
            read_image(array)
    Image.new('RGB', (40, 40)).save(tmp_path / 'big.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 500)
    with pytest.raises(ValueError, match='big.png: too large'):
        read_image(tmp_path / 'big.png')


def test_folders_and_patterns(tmp_path):
    for name in ('b.jpg', 'a.png', 'notes.txt'):
        (tmp_path / name).touch()
    names = [Path(path).name for path in expand_inputs([tmp_path, [str(tmp_path / '*.jpg')]])]
    assert names == ['a.png', 'b.jpg', 'b.jpg']
    with pytest.raises(FileNotFoundError, match='no file matches this pattern'):
        expand_inputs(str(tmp_path / '*.bmp'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty: no image and no video'):
        expand_inputs(tmp_path / 'empty')


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (33, 7)])
def test_smallest_images(inferencer, size):
    (prediction,) = inferencer(np.zeros((*size, 3), np.uint8))['predictions']
    assert prediction['label_map'].shape == size


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_memory_is_flat_over_240_calls(inferencer):
    """Images of 12 sizes and changing class names, in the mode that runs every part."""

    def resident_megabytes():
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    memory = []
    for index in range(240):
        height, width = 20 + 4 * (index % 4), 24 + 8 * (index % 3)
        names = ['sky', 'grass', *SEEN[index % 5 : 8]]
        (prediction,) = inferencer(image[:height, :width], classes=list(dict.fromkeys(names)))['predictions']
        assert prediction['label_map'].shape == (height, width)
        memory.append(resident_megabytes())
    # After the first calls of every size.
    assert max(memory[60:]) - memory[60] < 32


def test_overlay_has_a_legend_of_the_classes():
    label_map = np.zeros((200, 100), int)
    label_map[:50] = 2
    image = np.full((200, 100, 3), 9, np.uint8)
    drawing = overlay(image, label_map, ['a', 'b', 'c'], unseen=['c'], opacity=1.0)
    assert drawing.shape[0] == 200 and drawing.shape[1] > 150
    assert (drawing[100, 50] == palette(3)[0]).all() and (drawing[10, 50] == palette(3)[2]).all()
    # Two rows of the legend have text, the third is white.
    legend = drawing[:, 100:]
    assert (legend[:38] < 128).any() and (legend[60:] == 255).all()
    crowded = overlay(image[:40], np.arange(4000).reshape(40, 100) % 99, [str(n) for n in range(99)])
    assert crowded.shape[0] == 40
    assert len({tuple(colour) for colour in palette(200)}) == 200
