"""mmseg's own segmentor and inferencer accept mmzeg's head and model."""

import numpy as np
import torch
from mmseg.apis import MMSegInferencer
from mmseg.registry import MODELS


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
