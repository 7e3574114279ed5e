"""The runner gives the label maps of the inferencer, without PyTorch; errors about invalid input say how to fix it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from smooth_masks import smooth_mask_logits

from mmzeg.apis import ZeroShotInferencer
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.deployment import OnnxRunner
from mmzeg.deployment.class_embeddings import class_embeddings, write_class_embeddings
from mmzeg.deployment.onnx_export import export, export_settings
from mmzeg.utils.config_files import read_config

WORLD = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'


def load(options):
    """The world's model with random weights."""
    return ZeroShotInferencer(read_config(WORLD, options), device='cpu')


def scene(height, width):
    """An image (H, W, 3) BGR."""
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 256))[0][:height, :width, ::-1])


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """The world's model with random weights, resized by Pillow: the inferencer, and the runner of its export."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('exported')
    steps = [dict(type='mmzeg.DrawScene'), dict(type='mmzeg.ResizeShortestEdge', scale=72, max_size=200)]
    inferencer = load(
        {
            'test_dataloader.dataset.pipeline': [*steps, dict(type='PackSegInputs')],
            'model.fusion.gamma': 0.1,
            'model.decode_head.num_queries': 6,
            'model.decode_head.classifier.test_prompts': 'single',
            'model.scorer.prompts': 'single',
        }
    )
    # A random head predicts "no object" nearly everywhere.
    inferencer.model.decode_head.mask_embed[-1].bias.data.normal_(std=2.0)
    export(inferencer, folder)
    names = [*inferencer.model.vocabulary.names, 'zebra', 'sofa, couch']
    write_class_embeddings(folder / 'names.npz', class_embeddings(inferencer.model, names))
    return inferencer, OnnxRunner(folder, threads=1)


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
def test_network_input_is_what_the_config_says(pair, monkeypatch, steps, fields):
    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackSegInputs')]
    options = {f'model.data_preprocessor.{key}': value for key, value in fields.items()}
    options |= {'test_dataloader.dataset.pipeline': pipeline, 'model.scorer': None, 'model.fusion.mode': 'seg'}
    inferencer, image = load(options), scene(97, 141)
    data = inferencer.collate_fn([inferencer.pipeline(dict(img=image))])
    (expected,) = inferencer.model.data_preprocessor(data, False)['inputs']
    runner = pair[1]
    monkeypatch.setattr(runner, 'settings', export_settings(inferencer))
    actual = runner.network_input(runner.resize(image[..., ::-1]))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize('size', [(128, 128), (72, 72), (97, 200), (150, 61), (33, 7), (1, 1)])
def test_label_maps_equal_the_inferencers(pair, size):
    inferencer, runner = pair
    image = scene(*size)
    (expected,) = inferencer(image, return_scores=True)['predictions']
    actual = runner(image, return_scores=True)
    assert actual['classes'] == expected['classes'] and actual['label_map'].shape == size
    assert (actual['label_map'] == expected['label_map']).mean() >= 0.999
    np.testing.assert_allclose(actual['scores'], expected['scores'], atol=1e-3)


@pytest.mark.parametrize(
    'options',
    [
        dict(classes=['zebra', 'sofa, couch', 'sky']),
        dict(classes=['sky', 'grass', 'anchor'], seen=['anchor'], lam=0.3, gamma=0.0),
        dict(classes=['anchor']),
        dict(mode='img'),
        dict(mode='seg', gamma=0.3),
        dict(mode='unseen', lam=0.5),
    ],
)
def test_other_classes_and_fusion_settings(pair, options):
    inferencer, runner = pair
    image = scene(90, 130)
    (expected,) = inferencer(image, return_scores=True, **options)['predictions']
    actual = runner(image, return_scores=True, **options)
    assert (actual['label_map'] == expected['label_map']).mean() >= 0.999
    np.testing.assert_allclose(actual['scores'], expected['scores'], atol=1e-3)


def test_tiles_equal_the_complete_map(pair, monkeypatch):
    _, runner = pair
    complete = runner(scene(90, 130), return_scores=True)
    monkeypatch.setattr('mmzeg.deployment.onnx_runner.TILE_SIZE', 42 * 160 * 7)
    tiled = runner(scene(90, 130), return_scores=True)
    assert np.array_equal(complete['label_map'], tiled['label_map'])
    np.testing.assert_allclose(complete['scores'], tiled['scores'], atol=1e-6)


@pytest.mark.parametrize('empty', [(0,), (3, 5), tuple(range(6))])
def test_empty_masks_share_a_crop(pair, empty):
    inferencer, runner = pair
    scorer = inferencer.model.scorer
    logits = smooth_mask_logits(6, 24, 32)
    logits[list(empty)] = -3.0
    image = torch.randn(3, 96, 128)
    expected = scorer.encode(image, logits, (90, 120))
    normalized = scorer.normalize(image, (90, 120)).numpy()
    np.testing.assert_allclose(runner.encode_crops(normalized, logits.numpy()), expected, atol=1e-3)


@pytest.mark.parametrize(
    'options, message',
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
def test_invalid_input_is_refused(pair, options, message):
    with pytest.raises(ValueError, match=message):
        pair[1](scene(64, 64), **options)


def test_a_folder_without_its_files_is_refused(tmp_path, pair, monkeypatch):
    with pytest.raises(FileNotFoundError, match='settings.json: no such file; make the folder with'):
        OnnxRunner(tmp_path)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='pip install onnxruntime'):
        OnnxRunner(pair[1].folder)


def test_a_folder_of_another_format_is_refused(tmp_path):
    """A folder of an earlier version, whose settings and graph inputs had other names."""
    settings = dict(format=2, classes=['sky'], trained=['sky'], clip=dict(styles=['cropmask'], grow=1))
    (tmp_path / 'settings.json').write_text(json.dumps(settings))
    message = r'settings.json: format 2, and this runner reads format 4; export the model again, or use the runner in'
    with pytest.raises(ValueError, match=message):
        OnnxRunner(tmp_path)


def test_the_folder_runs_without_torch(tmp_path, pair):
    """As on a machine that has neither PyTorch nor mmzeg."""
    image = scene(100, 140)
    Image.fromarray(image[..., ::-1]).save(tmp_path / 'image.png')
    code = (
        'import sys\n'
        "sys.modules.update(dict.fromkeys(['torch', 'mmzeg', 'mmcv', 'mmengine', 'open_clip', 'cv2', 'scipy']))\n"
        'from mmzeg_onnx import OnnxRunner\n'
        f'result = OnnxRunner(".", threads=1)({str(tmp_path / "image.png")!r})\n'
        f'result["label_map"].astype("uint8").tofile({str(tmp_path / "labels")!r})\n'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=pair[1].folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    labels = np.fromfile(tmp_path / 'labels', np.uint8).reshape(image.shape[:2])
    assert np.array_equal(labels, pair[1](image)['label_map'])
