"""CLIPBackbone: the released maps, one frozen CLIP in memory, heads of mmseg and mmzeg on it."""

import gc
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from safetensors.torch import load_file
from tiny_clips import CONVNEXT, RESNET, VIT, write_clip

from mmzeg.clip import clip as clip_module
from mmzeg.models import CLIPBackbone
from mmzeg.models.scorers import build_scorer
from mmzeg.registry import MODELS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
GOLDEN = ROOT / 'tests/data/golden/successors'
CLIP_MEAN = [122.7709383, 116.7460125, 104.09373615]
CLIP_STD = [68.5005327, 66.6321579, 70.32316305]
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=CLIP_MEAN, std=CLIP_STD, bgr_to_rgb=True, size_divisor=32)
VISIONS = dict(convnext=CONVNEXT, resnet=RESNET, vit=VIT)
CHANNELS = dict(convnext=(40, 80, 160, 320), resnet=(64, 128, 256, 512))


@pytest.fixture(autouse=True)
def no_loaded_clip(monkeypatch):
    monkeypatch.setattr(clip_module, '_LOADED', {})


def clip_config(name, tmp_path):
    """Return the config of a tiny CLIP."""
    return write_clip(tmp_path / name, VISIONS[name])


@pytest.mark.parametrize('name', CHANNELS)
def test_maps(name, tmp_path):
    config = clip_config(name, tmp_path)
    backbone = CLIPBackbone(config)
    assert backbone.out_channels == CHANNELS[name] and not backbone.clip.is_loaded
    maps = backbone(torch.randn(2, 3, 96, 160))
    shapes = [(2, CHANNELS[name][stage], 24 // 2**stage, 40 // 2**stage) for stage in range(4)]
    assert [tuple(feature_map.shape) for feature_map in maps] == shapes
    # open_clip's own pooling of the last map gives its embedding.
    image = torch.randn(1, 3, *backbone.clip.image_size)
    last_map = backbone(image)[-1]
    visual = backbone.clip.network.visual
    embedding = visual.attnpool(last_map) if name == 'resnet' else visual.head(visual.trunk.forward_head(last_map))
    torch.testing.assert_close(embedding, backbone.clip.encode_image(image))


def test_clip_is_frozen_and_not_part_of_the_model(tmp_path):
    backbone = CLIPBackbone(clip_config('convnext', tmp_path)).train()
    assert not backbone.state_dict() and not list(backbone.parameters()) and not list(backbone.buffers())
    maps = backbone(torch.randn(1, 3, 64, 64, requires_grad=True))
    network = backbone.clip.network
    assert not any(feature_map.requires_grad for feature_map in maps)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_and_autocast(tmp_path):
    config = clip_config('convnext', tmp_path)
    inputs = torch.randn(1, 3, 64, 64)
    maps = CLIPBackbone(config)(inputs)
    half_maps = CLIPBackbone(dict(config, precision='bf16'))(inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        autocast_maps = CLIPBackbone(config)(inputs)
    assert all(feature_map.dtype == torch.float32 for feature_map in (*half_maps, *autocast_maps))
    assert all(map(torch.equal, maps, autocast_maps)) and not torch.equal(maps[-1], half_maps[-1])
    torch.testing.assert_close(half_maps[-1], maps[-1], atol=0.05 * maps[-1].abs().max().item(), rtol=0)


def test_a_vision_transformer_is_refused(tmp_path):
    with pytest.raises(ValueError, match='four stages, and .*/vit/clip.safetensors has none: use a ConvNeXt'):
        CLIPBackbone(clip_config('vit', tmp_path))


@pytest.mark.parametrize(
    'change',
    [
        dict(mean=[123.675, 116.28, 103.53]),
        dict(std=[58.395, 57.12, 57.375]),
        dict(bgr_to_rgb=False),
        dict(mean=None, std=None),
    ],
)
def test_another_normalization_is_refused(camvid, tmp_path, change):
    camvid.backbone = ConfigDict(type='mmzeg.CLIPBackbone', clip=clip_config('resnet', tmp_path))
    camvid.data_preprocessor = ConfigDict(PREPROCESSOR, **change)
    with pytest.raises(ValueError, match=r"CLIP's own normalization: set .* mean=\[122.7709, 116.746, 104.0937\]"):
        MODELS.build(camvid)


@pytest.mark.parametrize('name', CHANNELS)
def test_zegformers_head(name, camvid, labelled_batch, tmp_path):
    camvid.backbone = ConfigDict(type='mmzeg.CLIPBackbone', clip=clip_config(name, tmp_path))
    camvid.data_preprocessor = ConfigDict(PREPROCESSOR)
    model = MODELS.build(camvid).train()
    assert not model.backbone.clip.is_loaded and not any(key.startswith('backbone') for key in model.state_dict())
    losses = model.loss(*labelled_batch(3, 4))
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.inference_mode():
        (sample,) = model.eval().predict(torch.randn(1, 3, 64, 96))
    assert sample.pred_sem_seg.shape == (64, 96)
    # Training goes on after a validation in inference mode.
    sum(model.train().loss(*labelled_batch(3)).values()).backward()


def fcn_head():
    """Return mmseg's config of a fully convolutional head on the last map."""
    return dict(type='FCNHead', in_channels=512, in_index=3, channels=16, num_convs=1, num_classes=11)


def mask2former_head():
    """Return mmseg's config of Mask2Former's head, small."""
    attention = dict(embed_dims=32, num_heads=2, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=32, feedforward_channels=32, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))
    encoder_layer = dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=2, num_levels=3, num_points=2, batch_first=True), ffn_cfg=ffn
    )
    return dict(
        type='Mask2FormerHead',
        in_channels=list(CHANNELS['resnet']),
        strides=[4, 8, 16, 32],
        feat_channels=32,
        out_channels=32,
        num_classes=11,
        num_queries=5,
        num_transformer_feat_level=3,
        align_corners=False,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=8),
            act_cfg=dict(type='ReLU'),
            encoder=dict(num_layers=1, layer_cfg=encoder_layer),
            positional_encoding=dict(num_feats=16, normalize=True),
        ),
        positional_encoding=dict(num_feats=16, normalize=True),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=2,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        ),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss', use_sigmoid=False, reduction='mean', class_weight=[1.0] * 11 + [0.1]
        ),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='mean'),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0),
        train_cfg=dict(
            num_points=64,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=2.0),
                    dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
    )


@pytest.mark.parametrize('head', [fcn_head, mask2former_head])
def test_mmsegs_heads(head, camvid, labelled_batch, tmp_path):
    """A training step and a test in mmseg's own EncoderDecoder."""
    model = MMSEG_MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            data_preprocessor=PREPROCESSOR,
            backbone=dict(type='mmzeg.CLIPBackbone', clip=clip_config('resnet', tmp_path)),
            decode_head=head(),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )
    inputs, samples = labelled_batch(3, 4)
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(64, 64), ori_shape=(64, 64)))
    losses = model.train().loss(inputs, samples)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.decode_head.parameters())
    with torch.no_grad():
        (sample,) = model.eval().predict(inputs[:1], [SegDataSample(metainfo=dict(samples[0].metainfo))])
    assert sample.seg_logits.data.shape == (11, 64, 64)
    assert not any(key.startswith('backbone') for key in model.state_dict())


@pytest.fixture
def shared_clip_model(camvid, tmp_path):
    """Return the config of a model whose backbone, classifier and scorer have one CLIP."""

    def make(name, **scorer):
        clip = ConfigDict(clip_config(name, tmp_path))
        camvid.backbone = ConfigDict(type='mmzeg.CLIPBackbone', clip=clip)
        camvid.data_preprocessor = ConfigDict(PREPROCESSOR)
        classifier = camvid.decode_head.classifier
        classifier.text_encoder = clip
        classifier.train_prompts = classifier.test_prompts = 'single'
        fields = dict(type='mmzeg.CLIPDensePoolScorer', clip=clip, prompts='single', input_size='image')
        camvid.scorer = ConfigDict(fields | scorer)
        camvid.fusion = ConfigDict(mode='full')
        return camvid

    return make


def count_passes(clip):
    """Return a list that gets an entry for every pass of an image encoder's last stage."""
    visual = clip.network.visual
    last_stage = visual.trunk.stages[-1] if hasattr(visual, 'trunk') else visual.layer4
    passes = []
    last_stage.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize('pruning', [None, dict(type='mmzeg.ThresholdPruning', score_thr=0.5)])
@pytest.mark.parametrize('name', CHANNELS)
def test_clip_runs_once_per_image(name, pruning, shared_clip_model):
    torch.manual_seed(0)
    model = MODELS.build(shared_clip_model(name, pruning=pruning)).eval()
    inputs = torch.randn(2, 3, 64, 96)
    metas = [dict(ori_shape=(64, 96))] * 2
    passes = count_passes(model.backbone.clip)
    with torch.no_grad():
        reused = model.predict_logits(inputs, metas)[2]
        encoded = model.encode_segments(inputs, metas)[2]
        assert len(passes) == 2
        # The scorer alone encodes the same images.
        model.scorer.reuses_features = lambda backbone: False
        expected = model.predict_logits(inputs, metas)[2]
        expected_encoded = model.encode_segments(inputs, metas)[2]
    assert len(passes) == 8
    torch.testing.assert_close(reused, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encoded, expected_encoded, rtol=1e-3, atol=1e-4)
    assert expected[expected.isfinite()].std() > 0.01


def test_another_clip_or_input_size_is_not_reused(shared_clip_model):
    cfg = shared_clip_model('resnet')
    backbone = MODELS.build(cfg.backbone)
    assert MODELS.build(cfg.scorer).reuses_features(backbone)
    assert not MODELS.build(cfg.scorer).reuses_features(torch.nn.Identity())
    for change in (
        dict(input_size=None),
        dict(input_size=['image', 64]),
        dict(clip=dict(cfg.scorer.clip, precision='bf16')),
    ):
        assert not MODELS.build(dict(cfg.scorer, **change)).reuses_features(backbone)


def loaded_clips():
    """Return all CLIPs in the process."""
    gc.collect()
    return [entry for entry in gc.get_objects() if isinstance(entry, torch.nn.Module) and hasattr(entry, 'visual')]


def test_one_clip_in_memory(shared_clip_model):
    # Other tests of this process may have loaded some.
    others = loaded_clips()
    other_weights = {weight.data_ptr() for network in others for weight in network.parameters()}
    model = MODELS.build(shared_clip_model('convnext')).eval()
    with torch.no_grad():
        model.predict(torch.randn(1, 3, 64, 96))
    networks = [network for network in loaded_clips() if all(network is not other for other in others)]
    assert networks == [model.backbone.clip.network]
    # Storages of all weights in the process that have the shape of one of CLIP's largest.
    largest = max(networks[0].parameters(), key=torch.Tensor.numel)
    copies = {
        entry.data_ptr()
        for entry in gc.get_objects()
        if type(entry) in (torch.Tensor, torch.nn.Parameter) and entry.shape == largest.shape
    }
    assert copies - other_weights == {largest.data_ptr()}


@pytest.mark.parametrize('case', ['fc_clip_convnext', 'fc_clip_resnet'])
def test_released_maps_and_embeddings(case, tmp_path):
    """The backbone's maps, and the embeddings that the scorer pools from them, are those of FC-CLIP's code."""
    folder = GOLDEN / case
    settings = json.loads((folder / 'case.json').read_text())
    golden = {name: tensor.float() for name, tensor in load_file(folder / 'tensors.safetensors').items()}
    shutil.copy(folder / 'clip.safetensors', tmp_path)
    sidecar = dict(model_cfg=settings['clip'], preprocess_cfg=dict(mean=settings['mean'], std=settings['std']))
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(sidecar))
    clip = dict(type='mmzeg.CLIP', pretrained=str(tmp_path / 'clip.safetensors'))
    kind = case.removeprefix('fc_clip_')
    scorer = build_scorer(dict(Config.fromfile(CONFIGS / f'_base_/scorers/fc_clip_{kind}.py').scorer, clip=clip))
    backbone = CLIPBackbone(clip)
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ('mean', 'std'))
    inputs = (golden['image'] / 255 - mean) / std
    maps = backbone(inputs[None])
    for stage, stage_map in enumerate(maps, 2):
        expected = golden[f'res{stage}']
        torch.testing.assert_close(stage_map[0], expected, rtol=0, atol=1e-3 * expected.abs().max().item())
    assert scorer.reuses_features(backbone)
    size = tuple(golden['image'].shape[1:])
    (embeddings,) = scorer.encode_batch([golden['image']], [golden['mask_logits']], [size], features=maps[-1])
    # The released embedding of a mask that covers no cell is NaN with a ResNet, and zero here.
    is_valid = golden['embeddings'].isfinite().all(1)
    assert not embeddings[0, ~is_valid].any() and is_valid.sum() > 5
    expected = golden['embeddings'][is_valid]
    torch.testing.assert_close(embeddings[0, is_valid], expected, rtol=0, atol=1e-3 * expected.abs().max().item())
