"""A user's scorer without CLIP, as in docs/en/custom_components.md: in the inferencer and the demo page."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_session import Session
from mmzeg.apis.explanation import explain_image
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers import BaseScorer

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
NAMES = ['grass', 'umbrella, parasol', 'lawn']
COLOURS = dict(grass=(60, 140, 50), lawn=(180, 60, 60))


@MODELS.register_module()
class MeanColourScorer(BaseScorer):
    """Score classes by the distance of a segment's mean colour from theirs; other classes get 0."""

    def encode(self, image, mask_logits, valid_size):
        small = torch.nn.functional.interpolate(image[None].float(), size=mask_logits.shape[-2:], mode='area')[0]
        masks = mask_logits.sigmoid()
        return torch.einsum('qhw,chw->qc', masks, small) / masks.sum((1, 2)).clamp(min=1)[:, None]

    def classify(self, embeddings, vocabulary):
        logits = embeddings.new_zeros(len(embeddings), len(vocabulary))
        for index, name in enumerate(vocabulary.names):
            if name in COLOURS:
                logits[:, index] = 5 - (embeddings - embeddings.new_tensor(COLOURS[name])).norm(dim=1) / 20
        return logits


@pytest.fixture(scope='module')
def scene():
    """(96, 96, 3) RGB."""
    return draw_scene(Scene('test', 0, 96))[0]


@pytest.fixture(scope='module')
def inferencer():
    """The user's scorer is in the config."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.scorer = dict(type='MeanColourScorer')
    torch.manual_seed(0)
    return ZeroShotInferencer(cfg, device='cpu')


def test_at_a_call(scene):
    inferencer = ZeroShotInferencer(CONFIG, device='cpu')
    default, by_colour = (
        inferencer(scene, mode='img', scorer=scorer, return_scores=True)['predictions'][0]['scores']
        for scorer in (None, dict(type='MeanColourScorer'))
    )
    assert np.abs(default - by_colour).max() > 1e-3
    assert not isinstance(inferencer.model.scorer, MeanColourScorer)
    with pytest.raises(ValueError, match='must be a subclass of mmzeg.models.scorers.BaseScorer'):
        inferencer(scene, scorer=dict(type='mmzeg.ScoreFusion'))


def test_encode_and_classify_equal_a_call(inferencer, scene):
    (expected,) = inferencer(scene, NAMES, return_scores=True)['predictions']
    predictions = inferencer.classify(inferencer.encode(scene), NAMES)
    assert predictions.clip_logits.shape == (len(predictions.class_logits), 3)
    labels, segments = predictions.label_map_and_segments(inferencer.fusion())
    assert np.array_equal(labels.numpy(), expected['label_map']) and segments == expected['segments']
    np.testing.assert_allclose(predictions.semantic_map(inferencer.fusion()).numpy(), expected['scores'], atol=1e-6)


def test_session_of_the_demo_page(inferencer, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / 'scene.png')
    session = Session.start(inferencer, str(tmp_path / 'scene.png')).classify(inferencer, NAMES)
    for mode in ('seg', 'img', 'full'):
        drawing, areas = session.draw(ScoreFusion(mode))
        assert drawing.shape == (384, 384, 3) and areas.sum() == pytest.approx(1)
    _, explanation = session.explain_pixel(ScoreFusion('full'), 5, 60)
    assert len(explanation['img']) == 3


def test_handlers_of_the_demo_page(inferencer, scene, tmp_path, monkeypatch):
    from mmzeg.apis.demo_page_events import EventHandlers

    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    Image.fromarray(scene).save(tmp_path / 'scene.png')
    handlers = EventHandlers(inferencer)
    session, message, *results = handlers.load_image(
        dict(path=str(tmp_path / 'scene.png')), '\n'.join(NAMES), gamma=0.1, lam=0.5
    )
    assert session is not None and message == '' and handlers.modes == ['seg', 'img', 'full']
    assert [result.shape for result in results[:3]] == [(384, 384, 3)] * 3
    assert 'Scores of the segment' in handlers.explain_pixel(session, 'img', 5, 60, 0.1, 0.5)[-1]


def test_explanation_has_no_crops(inferencer, scene):
    html = explain_image(inferencer, scene, 'scene', inferencer.fusion(), NAMES)
    assert 'crop for CLIP' not in html and html.count('<table>') == 1
