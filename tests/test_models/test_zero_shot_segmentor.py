"""ZeroShotSegmentor: vocabulary, refused checkpoints, and defaults of the test configuration."""

import pytest
import torch
from mmengine.logging import MessageHub

from mmzeg.registry import MODELS


def test_a_loss_of_nan_names_the_files(camvid, labelled_batch):
    model = MODELS.build(camvid)
    model.decode_head.classifier.no_object.data.fill_(torch.nan)
    MessageHub.get_current_instance().update_info('iter', 7)  # as the runner does
    with pytest.raises(FloatingPointError, match='iteration 7, batch 3.jpg, 4.jpg: .* not finite'):
        model.loss(*labelled_batch(3, 4))


def test_setting_a_vocabulary_changes_no_weight(camvid):
    model = MODELS.build(camvid).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.set_vocabulary(['car', 'tree'])
    assert model.predict(torch.randn(1, 3, 64, 64))[0].seg_logits.data.shape[0] == 2
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_vocabulary_of_one_class(camvid):
    model = MODELS.build(camvid).eval()
    model.set_vocabulary(['car'])
    (sample,) = model.predict(torch.randn(1, 3, 64, 96))
    assert sample.seg_logits.shape == (64, 96) and sample.seg_logits.data.shape[0] == 1
    assert not sample.pred_sem_seg.data.any()


def test_a_checkpoint_of_another_model_is_refused(camvid):
    weights = MODELS.build(camvid).state_dict()
    camvid.decode_head.num_queries = 7
    model = MODELS.build(camvid)
    with pytest.raises(ValueError, match='another width or backbone: decode_head.query_embed'):
        model.load_state_dict(weights)
    with pytest.raises(ValueError, match='lacks'):
        model.load_state_dict({name: tensor for name, tensor in weights.items() if 'query' not in name})


def test_the_default_test_mode_is_whole(camvid):
    del camvid.test_cfg
    assert MODELS.build(camvid).test_cfg.mode == 'whole'
