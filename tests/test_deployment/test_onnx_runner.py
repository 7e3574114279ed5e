"""The runner without PyTorch: its arithmetic is PyTorch's, its label maps are the inferencer's, bad input is told."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.datasets.transforms import Resize
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment.onnx_arrays import crop_segments, grow, mask_probabilities, mask_rows, resize
from mmzeg.deployment.onnx_runner import OnnxRunner, fuse, padded_size, read_image, resized_size
from mmzeg.datasets.transforms import ResizeShortestEdge
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import MODES, ScoreFusion
from mmzeg.models.scorers import crops
from mmzeg.models.semantic_map import to_original

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools/deployment'))


def smooth_logits(count, height, width, seed=0):
    """Mask logits (N, h, w) with areas above and below 0."""
    small = torch.randn(1, count, 5, 5, generator=torch.Generator().manual_seed(seed))
    return 6 * F.interpolate(small, size=(height, width), mode='bicubic')[0]


@pytest.mark.parametrize('size', [(160, 96), (33, 70), (7, 5), (1, 1)])
def test_resize_is_torchs(size):
    maps = torch.randn(3, 24, 17)
    wanted = F.interpolate(maps[None], size=size, mode='bilinear', align_corners=False)[0]
    np.testing.assert_allclose(resize(maps.numpy(), size), wanted, atol=1e-5)
    rows = range(size[0] // 2, size[0])
    np.testing.assert_allclose(resize(maps.numpy(), size, rows), wanted[:, rows.start :], atol=1e-5)


@pytest.mark.parametrize('original', [(75, 130), (37, 64), (200, 300)])
def test_rows_of_masks_are_those_of_the_whole_map(original):
    padded, valid = (96, 160), (75, 130)
    logits = smooth_logits(4, 24, 40)
    masks = F.interpolate(logits[None], size=padded, mode='bilinear', align_corners=False)[0].sigmoid()
    wanted = to_original_size(masks, dict(ori_shape=original, padding_size=(0, 30, 0, 21)))
    for rows in (range(original[0]), range(5, 20), range(original[0] - 1, original[0])):
        found = mask_rows(logits.numpy(), padded, valid, original, rows)
        np.testing.assert_allclose(found, wanted[:, rows.start : rows.stop], atol=1e-5)


def test_a_mask_of_huge_logits_overflows_nowhere():
    with np.errstate(over='raise'):
        found = mask_probabilities(np.float32([[[-500, 500]]]), (1, 2))
    assert found.tolist() == [[[0, 1]]]


@pytest.mark.parametrize('pixels', [1, 3])
def test_masks_grow_as_by_max_pooling(pixels):
    masks = torch.rand(2, 20, 31)
    wanted = F.max_pool2d(masks, 2 * pixels + 1, stride=1, padding=pixels)
    np.testing.assert_array_equal(grow(masks.numpy(), pixels), wanted)


@pytest.mark.parametrize('style', crops.CROP_MODES)
@pytest.mark.parametrize('size', [(24, 24), (96, 32)])
def test_sub_images_are_the_scorers(style, size):
    masks = smooth_logits(8, 64, 96).sigmoid()
    masks[0] = 0
    masks[1] = 0
    masks[1, 30, 4:60] = 1  # a line has a box without area
    masks[2] = 0
    masks[2, 62:, 94:] = 1
    image = torch.randn(3, 64, 96)
    image[:, 50:] = 0
    wanted = crops.crop_segments(image, masks, size, style)
    found = crop_segments(image.numpy(), masks.numpy(), size, style)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('seen', [[True, False, True, False], [False] * 4, [True] * 4])
def test_scores_are_the_fusions(mode, seen):
    class_logits, clip_logits = 5 * torch.randn(6, 5), 5 * torch.randn(6, 4)
    wanted = ScoreFusion(mode, 0.7)(class_logits, clip_logits, torch.tensor(seen))
    np.testing.assert_allclose(
        fuse(class_logits.numpy(), clip_logits.numpy(), np.array(seen), mode, 0.7), wanted, atol=1e-6
    )


@pytest.mark.parametrize('size', [(480, 640), (641, 427), (333, 333), (100, 3000), (1, 1)])
@pytest.mark.parametrize(
    'step, transform',
    [
        (dict(kind='shortest', scale=640, max_size=2560), ResizeShortestEdge(640, 2560)),
        (dict(kind='shortest', scale=50, max_size=80), ResizeShortestEdge(50, 80, 'cv2')),
        (dict(kind='inside', scale=[240, 180]), Resize((240, 180), keep_ratio=True)),
        (dict(kind='fixed', scale=[64, 48]), Resize((64, 48))),
    ],
)
def test_sizes_are_the_transforms(size, step, transform):
    found = transform(dict(img=np.zeros((*size, 3), np.uint8)))['img'].shape
    assert resized_size(size[::-1], step) == found[1::-1]


def test_padding_is_to_a_multiple_or_at_least_to_a_size():
    assert padded_size((64, 65), dict(size=None, divisor=32)) == (64, 96)
    assert padded_size((64, 65), dict(size=None, divisor=None)) == (64, 65)
    assert padded_size((64, 65), dict(size=[80, 50], divisor=None)) == (80, 65)


@pytest.mark.parametrize(
    'steps, fields',
    [
        ([dict(type='mmzeg.ResizeShortestEdge', scale=70, max_size=80)], dict(bgr_to_rgb=False)),
        (
            [dict(type='Resize', scale=(120, 90), keep_ratio=True)],
            dict(test_cfg=dict(_delete_=True, size=(100, 80)), pad_val=7),
        ),
        ([dict(type='Resize', scale=(70, 50), backend='pillow')], dict(mean=None, std=None, test_cfg=None)),
    ],
)
def test_the_network_gets_what_the_config_says(pair, monkeypatch, steps, fields):
    from export_onnx import load, settings_of

    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackSegInputs')]
    options = {f'model.data_preprocessor.{key}': value for key, value in fields.items()}
    options |= {'test_dataloader.dataset.pipeline': pipeline, 'model.scorer': None, 'model.fusion.mode': 'seg'}
    inferencer, picture = load(ROOT / 'configs/zegformer_r18_world.py', None, options), scene(97, 141)
    data = inferencer.collate_fn([inferencer.pipeline(dict(img=picture))])
    (wanted,) = inferencer.model.data_preprocessor(data, False)['inputs']
    monkeypatch.setattr(pair[1], 'settings', settings_of(inferencer))
    found = pair[1].network_input(pair[1].resized(picture[..., ::-1]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """The world's model with random weights, resized by Pillow, in PyTorch and exported."""
    from export_onnx import export, load, name_embeddings, write_names

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('exported')
    steps = [dict(type='mmzeg.DrawScene'), dict(type='mmzeg.ResizeShortestEdge', scale=72, max_size=200)]
    options = {
        'test_dataloader.dataset.pipeline': [*steps, dict(type='PackSegInputs')],
        'model.fusion.gamma': 0.1,
        'model.decode_head.num_queries': 6,
        'model.decode_head.classifier.test_prompts': 'single',
        'model.scorer.prompts': 'single',
    }
    inferencer = load(ROOT / 'configs/zegformer_r18_world.py', None, options)
    # What a random head finds nearly everywhere is nothing.
    inferencer.model.decode_head.mask_embed[-1].bias.data.normal_(std=2.0)
    assert isinstance(inferencer, ZeroShotInferencer)
    export(inferencer, folder)
    names = [*inferencer.model.vocabulary.names, 'zebra', 'sofa, couch']
    write_names(folder / 'names.npz', name_embeddings(inferencer.model, names))
    return inferencer, OnnxRunner(folder, threads=1)


def scene(height, width):
    picture = draw_scene(Scene('test', 0, 256))[0][:height, :width, ::-1]
    return np.ascontiguousarray(picture)


@pytest.mark.parametrize('size', [(128, 128), (72, 72), (97, 200), (150, 61), (33, 7), (1, 1)])
def test_label_maps_are_the_inferencers(pair, size):
    inferencer, runner = pair
    picture = scene(*size)
    (wanted,) = inferencer(picture, return_scores=True)['predictions']
    found = runner(picture, return_scores=True)
    assert found['classes'] == wanted['classes'] and found['label_map'].shape == size
    assert (found['label_map'] == wanted['label_map']).mean() >= 0.999
    np.testing.assert_allclose(found['scores'], wanted['scores'], atol=1e-3)


@pytest.mark.parametrize(
    'asked',
    [
        dict(classes=['zebra', 'sofa, couch', 'sky']),
        dict(classes=['sky', 'grass', 'anchor'], seen=['anchor'], lam=0.3, gamma=0.0),
        dict(classes=['anchor']),
        dict(mode='img'),
        dict(mode='seg', gamma=0.3),
        dict(mode='unseen', lam=0.5),
    ],
)
def test_other_names_and_settings(pair, asked):
    inferencer, runner = pair
    picture = scene(90, 130)
    (wanted,) = inferencer(picture, return_scores=True, **asked)['predictions']
    found = runner(picture, return_scores=True, **asked)
    assert (found['label_map'] == wanted['label_map']).mean() >= 0.999
    np.testing.assert_allclose(found['scores'], wanted['scores'], atol=1e-3)


def test_many_classes_are_named_in_tiles(pair, monkeypatch):
    _, runner = pair
    whole = runner(scene(90, 130), return_scores=True)
    monkeypatch.setattr('mmzeg.deployment.onnx_runner.TILE', 42 * 160 * 7)
    tiled = runner(scene(90, 130), return_scores=True)
    assert np.array_equal(whole['label_map'], tiled['label_map'])
    np.testing.assert_allclose(whole['scores'], tiled['scores'], atol=1e-6)


@pytest.mark.parametrize('empties', [(0,), (3, 5), tuple(range(6))])
def test_empty_masks_share_a_sub_image(pair, empties):
    inferencer, runner = pair
    scorer = inferencer.model.scorer
    logits = smooth_logits(6, 24, 32)
    logits[list(empties)] = -3.0
    image = torch.randn(3, 96, 128)
    wanted = scorer.encode(image, logits, (90, 120))
    normalized = scorer.normalize(image, (90, 120)).numpy()
    np.testing.assert_allclose(runner.embed(normalized, logits.numpy()), wanted, atol=1e-3)


@pytest.mark.parametrize(
    'asked, message',
    [
        (dict(classes='sky'), 'one string'),
        (dict(classes=[]), 'one or more'),
        (dict(classes=['sky', 'sky']), 'different names'),
        (dict(classes=['sky', 'horse']), "no embedding of class 'horse': add it with .*embed_names.py"),
        (dict(classes=['sky'], seen=['grass']), "'grass' is listed in seen"),
        (dict(mode='both'), "mode 'both' is unknown"),
        (dict(lam=1.5), 'lam must lie in'),
        (dict(gamma=-1), 'gamma be 0 or more'),
        (dict(gamma=float('nan')), 'gamma be 0 or more'),
        (dict(gamma=float('inf')), 'and finite'),
    ],
)
def test_bad_input_is_told(pair, asked, message):
    with pytest.raises(ValueError, match=message):
        pair[1](scene(64, 64), **asked)


@pytest.mark.parametrize('cut', [0, 60])
def test_a_file_that_is_no_whole_picture_is_told(tmp_path, cut):
    path = tmp_path / 'cut.png'
    Image.fromarray(scene(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match='cut.png: not a whole picture'):
        read_image(path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / 'gone.png')


def test_a_folder_without_its_files_is_told(tmp_path, pair, monkeypatch):
    with pytest.raises(FileNotFoundError, match='settings.json: not there'):
        OnnxRunner(tmp_path)
    (tmp_path / 'settings.json').write_text('{"format": 99}')
    with pytest.raises(ValueError, match='of format 99, this runner reads'):
        OnnxRunner(tmp_path)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='pip install onnxruntime'):
        OnnxRunner(pair[1].folder)


def test_the_folder_runs_without_torch(tmp_path, pair):
    """As on a machine that has neither PyTorch nor mmzeg."""
    picture = scene(100, 140)
    Image.fromarray(picture[..., ::-1]).save(tmp_path / 'picture.png')
    code = (
        'import sys\n'
        "sys.modules.update(dict.fromkeys(['torch', 'mmzeg', 'mmcv', 'mmengine', 'open_clip', 'cv2', 'scipy']))\n"
        'from mmzeg_onnx import OnnxRunner\n'
        f'found = OnnxRunner(".", threads=1)({str(tmp_path / "picture.png")!r})\n'
        f'found["label_map"].astype("uint8").tofile({str(tmp_path / "labels")!r})\n'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=pair[1].folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = np.fromfile(tmp_path / 'labels', np.uint8).reshape(picture.shape[:2])
    assert np.array_equal(found, pair[1](picture)['label_map'])
