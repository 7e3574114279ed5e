"""Any class name on any picture: what comes back, and what bad input says."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.drawing import overlay, palette
from mmzeg.apis.image_reading import expand, read_image
from mmzeg.datasets.world import SEEN, UNSEEN, Scene, draw_scene

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer(CONFIG, device='cpu')


@pytest.fixture(scope='module')
def scene():
    """BGR, as OpenCV reads it."""
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 96))[0][..., ::-1])


def test_as_the_models_own_prediction(inferencer, scene):
    (found,) = inferencer(scene, return_scores=True)['predictions']
    data = inferencer.pipeline(dict(img=scene))
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(inferencer.collate_fn([data]))
    assert np.array_equal(found['label_map'], sample.pred_sem_seg.data[0].numpy())
    np.testing.assert_allclose(found['scores'], sample.seg_logits.data.numpy(), atol=1e-6)
    assert found['classes'] == [*SEEN, *UNSEEN]


def test_segments_are_the_label_map(inferencer, scene):
    (found,) = inferencer(scene)['predictions']
    assert sum(segment['area'] for segment in found['segments']) == found['label_map'].size
    for name in found['classes']:
        area = sum(segment['area'] for segment in found['segments'] if segment['name'] == name)
        assert area == (found['label_map'] == found['classes'].index(name)).sum()
    for segment in found['segments']:
        x0, y0, x1, y1 = segment['box']
        assert 0 <= segment['score'] <= 1 and segment['area'] <= (x1 - x0 + 1) * (y1 - y0 + 1)


def test_other_names_at_a_call(inferencer, scene):
    own = inferencer.model.vocabulary
    found = inferencer(scene, classes=['umbrella, parasol', 'grass', 'lawn'], mode='img')['predictions'][0]
    assert found['classes'] == ['umbrella, parasol', 'grass', 'lawn'] and found['label_map'].max() <= 2
    assert inferencer.model.vocabulary is own and inferencer.model.fusion.mode == 'full'


def test_seen_are_those_of_training_by_name(inferencer, scene):
    """Calibrated so hard that no seen class is left."""
    names = ['grass', 'lawn']
    by_name = inferencer(scene, classes=names, gamma=9.0)['predictions'][0]['label_map']
    assert (by_name == 1).all()
    given = inferencer(scene, classes=names, seen=['lawn'], gamma=9.0)['predictions'][0]['label_map']
    assert (given == 0).all()


def test_batches_of_other_sizes_and_bad_files(inferencer, scene, tmp_path):
    Image.fromarray(scene[..., ::-1]).save(tmp_path / 'a.png')
    (tmp_path / 'b.jpg').write_text('no picture')
    wide = np.concatenate([scene, scene], 1)
    result = inferencer(
        [tmp_path / 'a.png', tmp_path / 'b.jpg', wide, scene, 'gone.png'], batch_size=3, return_vis=True
    )
    shapes = [None if found is None else found['label_map'].shape for found in result['predictions']]
    assert shapes == [(96, 96), None, (96, 192), (96, 96), None]
    assert np.array_equal(result['predictions'][0]['label_map'], result['predictions'][3]['label_map'])
    assert [error['place'] for error in result['errors']] == [1, 4]
    assert 'b.jpg: not a whole picture (not a kind' in result['errors'][0]['error']
    assert 'gone.png: no such file' in result['errors'][1]['error']
    assert result['visualization'][1] is None and result['visualization'][2].shape[1] > 192


def test_threads_wait_for_each_other(inferencer, scene):
    wanted = {
        names: inferencer(scene, classes=list(names))['predictions'][0]
        for names in (('grass', 'sky'), ('sand', 'gear', 'sun'))
    }
    found = []

    def call(names):
        found.extend((names, inferencer(scene, classes=list(names))['predictions'][0]) for _ in range(3))

    threads = [threading.Thread(target=call, args=(names,)) for names in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for names, prediction in found:
        assert prediction['classes'] == list(names)
        assert np.array_equal(prediction['label_map'], wanted[names]['label_map'])


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
    with pytest.raises(ValueError, match='has no segments to name'):
        ZeroShotInferencer('per-pixel_r18_world')


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'LA', 'P', 'CMYK', 'I;16', '1'])
def test_pictures_of_every_mode(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 20).round().astype(np.uint8), (10, 1))
    if mode == 'I;16':
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey)
        image = (image if mode == 'P' else image.convert('RGB')).convert(mode)
    path = tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png')
    image.save(path)
    found = read_image(path)
    assert found.shape == (10, 20, 3) and found.dtype == np.uint8
    if mode != '1':
        assert np.abs(found.astype(int) - grey[..., None]).max() <= 3


def test_upright_first_frame_and_white_behind(tmp_path):
    half = Image.new('RGB', (4, 2), 'red')
    half.paste('blue', (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    half.save(tmp_path / 'a.png', exif=exif)
    found = read_image(tmp_path / 'a.png')
    assert found.shape == (4, 2, 3) and found[0, 0].tolist() == [0, 0, 255] and found[3, 0].tolist() == [255, 0, 0]
    half.save(tmp_path / 'a.gif', save_all=True, append_images=[Image.new('RGB', (4, 2), 'green')])
    assert read_image(tmp_path / 'a.gif')[0, 3].tolist() == [255, 0, 0]
    assert read_image(Image.new('RGBA', (2, 2), (0, 0, 0, 0))).min() == 255


def test_bad_pictures(tmp_path, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / 'cut.jpg')
    content = (tmp_path / 'cut.jpg').read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='cut.jpg: not a whole picture .*truncated'):
        read_image(tmp_path / 'cut.jpg')
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
    names = [Path(path).name for path in expand([tmp_path, [str(tmp_path / '*.jpg')]])]
    assert names == ['a.png', 'b.jpg', 'b.jpg']
    with pytest.raises(FileNotFoundError, match='no file fits this pattern'):
        expand(str(tmp_path / '*.bmp'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty: no picture and no video'):
        expand(tmp_path / 'empty')


@pytest.mark.parametrize('size', [(1, 1), (33, 7)])
def test_smallest_pictures(inferencer, size):
    (found,) = inferencer(np.zeros((*size, 3), np.uint8))['predictions']
    assert found['label_map'].shape == size


def test_overlay_names_what_is_there():
    label_map = np.zeros((200, 100), int)
    label_map[:50] = 2
    picture = np.full((200, 100, 3), 9, np.uint8)
    drawn = overlay(picture, label_map, ['a', 'b', 'c'], unseen=['c'], opacity=1.0)
    assert drawn.shape[0] == 200 and drawn.shape[1] > 150
    assert (drawn[100, 50] == palette(3)[0]).all() and (drawn[10, 50] == palette(3)[2]).all()
    # Two rows of the legend are written, the third is white.
    legend = drawn[:, 100:]
    assert (legend[:38] < 128).any() and (legend[60:] == 255).all()
    crowded = overlay(picture[:40], np.arange(4000).reshape(40, 100) % 99, [str(n) for n in range(99)])
    assert crowded.shape[0] == 40
    assert len({tuple(colour) for colour in palette(200)}) == 200
