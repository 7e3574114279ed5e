"""Every config builds without network; the published one has the published size and trains."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from PIL import Image

import mmzeg
from mmzeg.datasets.world import ABSENT_CLASS, SEEN, SYNONYMS, UNSEEN, Scene, draw_scene
from mmzeg.registry import MODELS
from mmzeg.utils.released_names import convert_released

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
# Configs without a training
PROPOSALS = [path for path in CONFIGS if path.stem.startswith('proposals_')]
# Channels of the maps of configs whose backbone is a CLIP
CLIP_BACKBONES = {
    'zegformer_clip-convnext-b_coco': [128, 256, 512, 1024],
    'zegformer_clip-convnext-l_coco': [192, 384, 768, 1536],
    'zegformer_clip-rn50_coco': [256, 512, 1024, 2048],
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError('no network in this test')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


def build(path):
    cfg = Config.fromfile(path)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize('path', [path for path in CONFIGS if path not in PROPOSALS], ids=lambda path: path.stem)
def test_builds_offline(path, no_network):
    cfg, model = build(path)
    assert model.decode_head.classifier.train_vocabulary.names == tuple(cfg.seen_classes)
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset.metainfo
    for dataset in train.get('datasets', [train]):
        assert tuple(dataset.metainfo.classes) == tuple(cfg.seen_classes)
    assert model.vocabulary.names == tuple(test.classes) and model.vocabulary.unseen == tuple(test.unseen_classes)
    # The ignored value must be the same everywhere.
    ignore_index = cfg.test_dataloader.dataset.get('ignore_index', 255)
    assert cfg.test_evaluator.get('ignore_index', 255) == ignore_index
    if 'cross_dataset' not in cfg:
        assert model.decode_head.ignore_index == model.data_preprocessor.seg_pad_val == ignore_index
    assert not any('clip' in name.lower() or 'text' in name for name in model.state_dict())


@pytest.mark.parametrize('path', PROPOSALS, ids=lambda path: path.stem)
def test_proposals_build_offline(path, no_network):
    cfg, model = build(path)
    test = cfg.test_dataloader.dataset.metainfo
    assert model.vocabulary.names == tuple(test.classes) == model.vocabulary.unseen == tuple(test.unseen_classes)
    assert model.decode_head.classifier.train_vocabulary.names == ()
    assert not model.scorer.clip.is_loaded


@pytest.mark.parametrize('name, channels', CLIP_BACKBONES.items())
def test_one_clip_is_backbone_classifier_and_scorer(name, channels, no_network):
    cfg, model = build(ROOT / f'configs/{name}.py')
    assert list(model.backbone.out_channels) == channels
    assert model.scorer.reuses_features(model.backbone)
    assert model.backbone.clip.is_same(model.decode_head.classifier.text_encoder)
    assert not model.backbone.clip.is_loaded and not any(name.startswith('backbone') for name in model.state_dict())
    # FC-CLIP's scorer and fusion
    kind = 'resnet' if 'rn50' in name else 'convnext'
    published = Config.fromfile(ROOT / f'configs/_base_/scorers/fc_clip_{kind}.py')
    assert cfg.model.scorer == dict(published.scorer, clip=cfg.model.backbone.clip, prompts='imagenet_select_clip')
    assert cfg.model.fusion == published.fusion


@pytest.mark.parametrize(
    'config, split', [('zegformer_r50_coco', 'coco_stuff_156_15'), ('zegformer_r50_voc', 'voc12_15_5')]
)
def test_class_names_equal_the_split_files(config, split):
    split = json.loads((Path(mmzeg.__file__).parent / f'datasets/splits/{split}.json').read_text())
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    assert cfg.seen_classes == split['seen'] and cfg.unseen_classes == split['unseen']
    if config.endswith('voc'):
        assert cfg.voc.labels == split['label_value']


def test_ade20k_full_list_equals_the_split_file():
    data = Path(mmzeg.__file__).parent / 'datasets'
    split = json.loads((data / 'splits/ade20k_full_572_275.json').read_text())
    names = json.loads((data / 'class_lists/ade20k_full_847.json').read_text())['names']
    assert names == [*split['seen'], *split['unseen']] == list(split['ade_full_id'])


def test_model_index_lists_every_published_config():
    (path,) = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    models = yaml.safe_load((ROOT / path).read_text())['Models']
    assert all((ROOT / model['Config']).is_file() and Path(model['Config']).stem == model['Name'] for model in models)
    # Configs for tests across datasets and of proposals use another's weights; CamVid and the world are examples.
    unlisted = ('zegformer_r101_coco_', 'zegformer_r18_', 'per-pixel_r18_', 'proposals_')
    assert {model['Name'] for model in models} == {path.stem for path in CONFIGS if not path.stem.startswith(unlisted)}


def test_world_class_names_equal_the_generators():
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world.py')
    assert cfg.seen_classes == list(SEEN) and cfg.unseen_classes == list(UNSEEN)
    cfg = Config.fromfile(ROOT / 'configs/zegformer_r18_world_synonyms.py')
    assert cfg.test_classes == [SYNONYMS.get(name, name) for name in (*SEEN, *UNSEEN)] + [ABSENT_CLASS]


@pytest.mark.parametrize('depth', [50, 101])
def test_released_parameter_list_fits(depth):
    _, model = build(ROOT / f'configs/zegformer_r{depth}_coco.py')
    path = ROOT / f'tests/data/released_state_dicts/zegformer_r{depth}_coco_stuff.json'
    released = {
        name: torch.full(shape, float(n)) for n, (name, shape) in enumerate(json.loads(path.read_text()).items())
    }
    released['sem_seg_head.predictor.logit_scale'].fill_(4.6052)
    expected = model.state_dict()
    converted = convert_released(released)
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    model.load_state_dict(converted, strict=True)
    # Every trained weight is filled, each from another released weight.
    values = [weight.flatten()[0].item() for weight in model.parameters()]
    assert len(set(values)) == len(values) and all(
        (weight == weight.flatten()[0]).all() for weight in model.parameters()
    )


def test_r101_size_and_one_training_step(monkeypatch):
    cfg, model = build(ROOT / 'configs/zegformer_r101_coco.py')
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 59e6 < trainable < 62e6
    # A test cannot download CLIP's weights, so it replaces the text embeddings.
    classifier = model.decode_head.classifier
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(156, 512, generator=generator), dim=-1)
    monkeypatch.setattr(classifier.text_encoder, 'text_embeddings', lambda names, prompts, device: embeddings)
    samples = []
    for index in range(2):
        sample = SegDataSample(metainfo=dict(img_path=f'{index}.jpg'))
        sample.gt_sem_seg = PixelData(data=torch.full((1, 64, 96), 255 if index else 3))
        samples.append(sample)
    losses = model.loss(torch.randn(2, 3, 64, 96), samples)
    assert len(losses) == 18
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert not classifier.text_encoder.is_loaded


def test_camvid_embeddings_are_the_seeded_rotation():
    file = np.load(ROOT / 'configs/_base_/datasets/camvid_embeddings.npz')
    rotation, _ = np.linalg.qr(np.random.RandomState(0).standard_normal((64, 64)))
    np.testing.assert_allclose(np.stack([file[name] for name in file.files]), rotation[:11], atol=1e-6)


@pytest.mark.parametrize('size', [(500, 375), (300, 900)])
def test_published_pipelines_on_an_image(tmp_path, size):
    cfg, _ = build(ROOT / 'configs/zegformer_r50_coco.py')
    paths = dict(img_path=str(tmp_path / 'street.jpg'), seg_map_path=str(tmp_path / 'street.png'))
    Image.new('RGB', size, (10, 20, 30)).save(paths['img_path'])
    Image.new('L', size, 7).save(paths['seg_map_path'])
    np.random.seed(0)
    num_padded = 0
    for _ in range(8):
        sample = Compose(cfg.train_pipeline)(dict(paths, reduce_zero_label=False, label_map=None, seg_fields=[]))
        image, label = sample['inputs'], sample['data_samples'].gt_sem_seg.data
        assert image.shape == (3, 640, 640) and label.shape == (1, 640, 640)
        assert set(label.unique().tolist()) <= {7, 255}
        padding = label[0] == 255
        num_padded += padding.any()
        assert (image[:, padding] == 128).all()
    assert num_padded
    sample = Compose(cfg.test_pipeline)(dict(paths, reduce_zero_label=False, label_map=None, seg_fields=[]))
    width, height = size
    assert min(sample['inputs'].shape[1:]) == 640 and max(sample['inputs'].shape[1:]) == 640 * max(size) // min(size)
    assert sample['data_samples'].ori_shape == (height, width) and sample['data_samples'].gt_sem_seg.shape == size[::-1]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_tta(path, tmp_path):
    """Every config has test-time augmentations; the first one keeps the labels as they are on disk, for the metric."""
    cfg = Config.fromfile(path)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    paths = dict(img_path=str(tmp_path / 'street.jpg'), seg_map_path=str(tmp_path / 'street.png'))
    scene = Scene('test', 0, 80)
    image, labels = draw_scene(scene)
    Image.fromarray(image).save(paths['img_path'])
    Image.fromarray(labels).save(paths['seg_map_path'])
    augmented = Compose(cfg.tta_pipeline)(
        dict(paths, scene=scene, reduce_zero_label=False, label_map=None, seg_fields=[], img_id=0)
    )
    sizes, flips = ({sample.get(key) for sample in augmented['data_samples']} for key in ('img_shape', 'flip'))
    assert len(augmented['inputs']) == len(sizes) * len(flips) >= 4 and flips == {False, True}
    assert not augmented['data_samples'][0].flip
    assert np.array_equal(augmented['data_samples'][0].gt_sem_seg.data[0], labels)
    assert {sample.ori_shape for sample in augmented['data_samples']} == {labels.shape}


def test_swin_norms_and_position_tables_have_no_weight_decay():
    cfg, model = build(ROOT / 'configs/zegformer_swin-t_coco.py')
    cfg.optim_wrapper.type = 'OptimWrapper'
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    of_parameter = {id(group['params'][0]): (group['lr'], group['weight_decay']) for group in groups}
    settings = {name: of_parameter[id(parameter)] for name, parameter in model.named_parameters()}
    assert settings['backbone.stages.0.blocks.0.norm1.weight'] == pytest.approx((1e-5, 0))
    assert settings['backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table'] == pytest.approx((1e-5, 0))
    assert settings['backbone.stages.0.blocks.0.attn.w_msa.qkv.weight'] == pytest.approx((1e-5, 1e-4))
    assert settings['decode_head.classifier.no_object'] == pytest.approx((1e-4, 1e-4))
    assert settings['decode_head.query_embed.weight'] == pytest.approx((1e-4, 0))
