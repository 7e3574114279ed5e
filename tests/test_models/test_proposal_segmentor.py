"""ProposalSegmentor on ground-truth masks of the procedural dataset, whose small CLIP is trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.utils import register_all_modules
from PIL import Image
from pycocotools import mask as coco_mask

from mmzeg.apis import ZeroShotInferencer
from mmzeg.datasets.world import CLASSES, Scene, draw_scene
from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]
NUM_SCENES = 8


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Return a folder with images, the RLE of their ground-truth masks in ``masks``, and the label maps."""
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'images').mkdir()
    (folder / 'masks').mkdir()
    label_maps = []
    for index in range(NUM_SCENES):
        image, labels = draw_scene(Scene('test', index, 128))
        Image.fromarray(image).save(folder / f'images/{index}.png')
        masks = [labels == value for value in np.unique(labels)]
        entries = [dict(segmentation=coco_mask.encode(np.asfortranarray(mask, np.uint8))) for mask in masks]
        for entry in entries:
            entry['segmentation']['counts'] = entry['segmentation']['counts'].decode()
        (folder / f'masks/{index}.json').write_text(json.dumps(entries))
        label_maps.append(labels)
    return folder, label_maps


@pytest.fixture
def config(photos, tmp_path, monkeypatch):
    """Return a config of masks from files and the procedural dataset's CLIP and test."""
    monkeypatch.setenv('MMZEG_CACHE', str(tmp_path))
    world = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    cfg = Config.fromfile(ROOT / 'configs/proposals_files.py')
    cfg.model.proposals.folder = str(photos[0] / 'masks')
    cfg.model.decode_head.classifier.vocabulary = dict(classes=list(CLASSES), unseen=list(CLASSES))
    cfg.model.scorer = world.model.scorer
    cfg.test_dataloader = world.test_dataloader
    return cfg


def test_true_masks_get_their_names(config, photos):
    folder, label_maps = photos
    inferencer = ZeroShotInferencer(config, device='cpu')
    results = inferencer([str(folder / f'images/{index}.png') for index in range(NUM_SCENES)], batch_size=4)
    assert not results['errors']
    predictions = [prediction['label_map'] for prediction in results['predictions']]
    accuracy = np.mean(
        [(prediction == labels).mean() for prediction, labels in zip(predictions, label_maps, strict=True)]
    )
    # The small CLIP names most of them; chance is 1 of 42.
    assert accuracy > 0.7
    # Every segment is one mask, and its score is CLIP's probability.
    for prediction, labels in zip(results['predictions'], label_maps, strict=True):
        queries = {segment['query'] for segment in prediction['segments']}
        assert len(queries) == len(np.unique(labels))
        assert all(0 < segment['score'] <= 1 for segment in prediction['segments'])
        assert prediction['unseen'] == list(CLASSES)


def test_other_names_after_encoding(config, photos):
    file = str(photos[0] / 'images/0.png')
    inferencer = ZeroShotInferencer(config, device='cpu')
    encoded = inferencer.encode(file)
    for names in (['sky', 'grass', 'water'], list(CLASSES)):
        predictions = inferencer.classify(encoded, names)
        label_map = predictions.label_map(inferencer.fusion())
        (expected,) = inferencer(file, classes=names)['predictions']
        assert np.array_equal(label_map.numpy(), expected['label_map'])
    # Scores are CLIP's softmax times the objectness.
    scores = predictions.scores(inferencer.fusion())
    objectness = encoded.segment_embeddings.sigmoid()
    torch.testing.assert_close(scores, predictions.clip_logits.softmax(-1) * objectness, rtol=1e-4, atol=1e-6)


def test_an_image_without_masks_does_not_stop_the_others(config, photos, tmp_path):
    folder, _ = photos
    stray = tmp_path / 'stray.png'
    Image.open(folder / 'images/0.png').save(stray)
    array = np.zeros((128, 128, 3), np.uint8)
    inferencer = ZeroShotInferencer(config, device='cpu')
    inputs = [str(folder / 'images/0.png'), str(stray), array, str(folder / 'images/1.png')]
    results = inferencer(inputs, batch_size=4)
    assert [error['place'] for error in results['errors']] == [1, 2]
    assert 'stray: no masks of this image' in results['errors'][0]['error']
    assert 'has no file name' in results['errors'][1]['error']
    alone = inferencer([inputs[0], inputs[3]])['predictions']
    for prediction, expected in zip(results['predictions'][::3], alone, strict=True):
        assert np.array_equal(prediction['label_map'], expected['label_map'])


def test_no_masks_are_one_segment(config, tmp_path):
    (tmp_path / 'empty.json').write_text('[]')
    Image.fromarray(draw_scene(Scene('test', 0, 64))[0]).save(tmp_path / 'empty.png')
    config.model.proposals.folder = str(tmp_path)
    inferencer = ZeroShotInferencer(config, device='cpu')
    (prediction,) = inferencer(str(tmp_path / 'empty.png'), return_scores=True)['predictions']
    (segment,) = prediction['segments']
    assert segment['area'] == 64 * 64 and prediction['scores'].shape == (len(CLASSES), 64, 64)


def test_modes_without_the_scorer_are_refused(config, photos):
    inferencer = ZeroShotInferencer(config, device='cpu')
    with pytest.raises(ValueError, match="fusion mode 'seg' uses the classes of the head"):
        inferencer(str(photos[0] / 'images/0.png'), mode='seg')
    config.model.fusion = dict(mode='seg')
    with pytest.raises(ValueError, match="fusion mode 'seg' uses the classes of the head"):
        MODELS.build(config.model)


def test_windows_and_training_are_refused(config, photos):
    register_all_modules()
    model = MODELS.build(config.model)
    with pytest.raises(ValueError, match='nothing to train'):
        model.loss(torch.zeros(1, 3, 32, 32), [])
    config.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(ValueError, match='masks are those of whole images'):
        MODELS.build(config.model)


@pytest.fixture
def maskformer(config, tmp_path):
    """Return the config with mmseg's MaskFormer, made small."""
    narrow = dict(embed_dims=32, num_heads=2)
    layer = dict(self_attn_cfg=narrow, cross_attn_cfg=narrow, ffn_cfg=dict(embed_dims=32, feedforward_channels=32))
    head = dict(
        in_channels=[8, 16, 32, 64],
        feat_channels=32,
        out_channels=32,
        num_queries=6,
        pixel_decoder=dict(norm_cfg=dict(num_groups=8)),
        positional_encoding=dict(num_feats=16),
        transformer_decoder=dict(num_layers=2, layer_cfg=layer),
    )
    model = dict(backbone=dict(depth=18, base_channels=8, stem_channels=8), decode_head=head)
    path = tmp_path / 'small.py'
    base = Path(__import__('mmseg').__file__).parent / '.mim/configs/maskformer'
    base /= 'maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
    path.write_text(f'_base_ = {str(base)!r}\nmodel = {model!r}\n')
    config.model.proposals = dict(type='mmzeg.ModelProposals', config=str(path))
    return config


def test_a_checkpoint_of_the_mask_model_loads(maskformer, photos, tmp_path):
    torch.manual_seed(0)
    mask_model = MODELS.build(maskformer.model).backbone.model
    weights = {name: tensor + tensor.is_floating_point() for name, tensor in mask_model.state_dict().items()}
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'zoo.pth')
    inferencer = ZeroShotInferencer(maskformer, str(tmp_path / 'zoo.pth'), device='cpu')
    loaded = inferencer.model.backbone.model.state_dict()
    assert weights.keys() == loaded.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
    # Its own checkpoint loads too, and arrays have masks.
    torch.save(inferencer.model.state_dict(), tmp_path / 'own.pth')
    image = np.ascontiguousarray(np.asarray(Image.open(photos[0] / 'images/0.png'))[..., ::-1])
    (expected,) = inferencer(image)['predictions']
    (prediction,) = ZeroShotInferencer(maskformer, str(tmp_path / 'own.pth'), device='cpu')(image)['predictions']
    assert np.array_equal(prediction['label_map'], expected['label_map'])
    assert expected['label_map'].shape == (128, 128)


def test_a_checkpoint_of_another_model_is_refused(maskformer):
    model = MODELS.build(maskformer.model)
    with pytest.raises(ValueError, match='lacks'):
        model.load_state_dict({'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)})
