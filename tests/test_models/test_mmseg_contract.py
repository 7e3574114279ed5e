"""mmseg's own segmentor and inferencer take our parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import MMSegInferencer
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

CONFIG = Path(__file__).parents[2] / 'configs' / 'zegformer_r18_camvid.py'


@pytest.fixture
def cfg():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return Config.fromfile(CONFIG)


def test_head_in_mmsegs_encoder_decoder_gives_the_same_map(cfg):
    torch.manual_seed(0)
    ours = MODELS.build(cfg.model).eval()
    plain = {key: value for key, value in cfg.model.items() if key not in ('scorer', 'fusion')}
    plain['type'] = 'EncoderDecoder'
    plain['decode_head'] = dict(cfg.model.decode_head, in_channels=[64, 128, 256, 512])
    theirs = MODELS.build(plain).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, wanted = (model.predict(image)[0].seg_logits.data for model in (ours, theirs))
    # Ours gives the backbone channels-last inputs, whose sums are in another order.
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_mmsegs_inferencer(cfg, tmp_path):
    weights = tmp_path / 'weights.pth'
    model = MODELS.build(cfg.model)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=cfg.train_dataloader.dataset.metainfo)), weights
    )
    inferencer = MMSegInferencer(
        str(CONFIG), weights=str(weights), device='cpu', classes=cfg.seen_classes, palette=[[0, 0, 0]] * 11
    )
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    assert inferencer(image, show=False)['predictions'].shape == (90, 120)
