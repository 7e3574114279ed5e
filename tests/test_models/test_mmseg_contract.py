"""mmseg's own segmentor and inferencer accept mmzeg's head and model."""

import warnings

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer, init_model, show_result_pyplot
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmzeg.datasets import CamVidDataset


def test_the_head_in_mmsegs_encoder_decoder_gives_the_same_map(camvid):
    torch.manual_seed(0)
    model = MODELS.build(camvid).eval()
    mmseg_cfg = {name: value for name, value in camvid.items() if name not in ('scorer', 'fusion')}
    mmseg_cfg['type'] = 'EncoderDecoder'
    mmseg_cfg['decode_head'] = dict(camvid.decode_head, in_channels=[64, 128, 256, 512])
    mmseg_model = MODELS.build(mmseg_cfg).eval()
    mmseg_model.load_state_dict(model.state_dict())
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        semantic_map = model.predict(inputs)[0].seg_logits.data
        mmseg_map = mmseg_model.predict(inputs)[0].seg_logits.data
    # ZegFormer gives the backbone channels-last inputs, whose sums are in another order.
    torch.testing.assert_close(semantic_map, mmseg_map, rtol=1e-4, atol=1e-4)


def test_mmsegs_inferencer(camvid_config, tmp_path):
    weights = tmp_path / 'weights.pth'
    model = MODELS.build(camvid_config.model)
    meta = dict(dataset_meta=camvid_config.train_dataloader.dataset.metainfo)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    inferencer = MMSegInferencer(
        camvid_config.filename,
        weights=str(weights),
        device='cpu',
        classes=camvid_config.seen_classes,
        palette=[[0, 0, 0]] * 11,
    )
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    assert inferencer(image, show=False)['predictions'].shape == (90, 120)


@pytest.fixture
def trained(camvid_config, tmp_path):
    """A config with unseen classes, and a checkpoint of random weights with the seen ones, as MMEngine saves it."""
    torch.manual_seed(0)
    names = CamVidDataset.METAINFO['classes']
    classifier = camvid_config.model.decode_head.classifier
    classifier.vocabulary = dict(classes=names, unseen=['pole', 'tree', 'car'])
    seen = [name for name in names if name not in classifier.vocabulary.unseen]
    dataset = CamVidDataset(metainfo=dict(classes=seen), lazy_init=True)
    path = tmp_path / 'weights.pth'
    model = MODELS.build(camvid_config.model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dataset.metainfo)), path)
    return camvid_config, str(path)


@pytest.mark.parametrize('has_meta', [True, False])
def test_mmsegs_inference_draws_unseen_classes(trained, has_meta):
    """Every class, seen or not, has a colour of its own; seen ones the dataset's, if the checkpoint holds it."""
    config, checkpoint = trained
    if not has_meta:
        torch.save(dict(torch.load(checkpoint), meta={}), checkpoint)
    # Without metadata mmseg warns, and calls simplefilter('once'), which overrides all filters until it is undone here.
    with warnings.catch_warnings(record=True):
        model = init_model(config, checkpoint, 'cpu')
    meta = model.dataset_meta
    assert meta['classes'] == model.vocabulary.names == CamVidDataset.METAINFO['classes']
    assert len({tuple(colour) for colour in meta['palette']}) == len(meta['classes'])
    if has_meta:
        known = dict(zip(CamVidDataset.METAINFO['classes'], CamVidDataset.METAINFO['palette'], strict=True))
        seen_colours = {name: meta['palette'][model.vocabulary.index(name)] for name in model.vocabulary.seen}
        assert seen_colours == {name: known[name] for name in model.vocabulary.seen}

    # One class per column, drawn without names over them.
    sample = SegDataSample(pred_sem_seg=PixelData(data=torch.arange(len(meta['classes'])).expand(1, 8, -1)))
    image = np.zeros((8, len(meta['classes']), 3), np.uint8)
    drawing = show_result_pyplot(model, image, sample, opacity=1.0, show=False, with_labels=False)
    assert drawing[0].tolist() == [list(colour) for colour in meta['palette']]

    # Another vocabulary has its own names and colours.
    model.set_vocabulary(['zebra', 'sofa, couch'])
    assert model.dataset_meta['classes'] == ('zebra', 'sofa, couch') and len(model.dataset_meta['palette']) == 2


def test_mmsegs_inferencer_draws_unseen_classes(trained):
    inferencer = MMSegInferencer(trained[0], weights=trained[1], device='cpu')
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    result = inferencer(image, return_vis=True, opacity=1.0, with_labels=False)
    palette = np.uint8(inferencer.model.dataset_meta['palette'])
    assert len(palette) == len(inferencer.model.vocabulary)
    assert np.array_equal(result['visualization'], palette[result['predictions']])
