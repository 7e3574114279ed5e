"""ZeroShotTTAModel averages semantic maps, which hold scores."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmzeg.registry import MODELS


def test_maps_are_averaged(camvid):
    model = MODELS.build(dict(type='mmzeg.ZeroShotTTAModel', module=camvid))
    maps = torch.rand(2, 5, 40, 40, generator=torch.Generator().manual_seed(0))
    samples = [SegDataSample(seg_logits=PixelData(data=semantic_map)) for semantic_map in maps]
    (merged,) = model.merge_preds([samples])
    torch.testing.assert_close(merged.seg_logits.data, maps.mean(0))
    assert torch.equal(merged.pred_sem_seg.data[0], maps.mean(0).argmax(0))
    # mmseg's own model, which averages the softmax, gives other labels here.
    assert not torch.equal(merged.pred_sem_seg.data[0], maps.softmax(1).mean(0).argmax(0))
