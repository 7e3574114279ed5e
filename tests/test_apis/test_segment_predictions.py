"""A picture looked at once and named many times: as whole calls, and as the maps of every setting."""

import numpy as np
import pytest
import torch

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.apis.preview import Preview
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.vocabulary import Vocabulary

FUSION = ScoreFusion('full', 0.6, 0.1)


@pytest.fixture(scope='module')
def predict_logits():
    """12 segments with clear masks, 9 classes, 4 of them unseen; padded, and of another size than the network's."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.nn.functional.interpolate(torch.randn(1, 12, 5, 6, generator=generator) * 8, size=(16, 24))[0]
    names = Vocabulary([f'class {index}' for index in range(9)], unseen=[f'class {index}' for index in (1, 4, 5, 8)])
    logits = (torch.randn(12, count, generator=generator) * 3 for count in (10, 9))
    class_logits, clip_logits = logits
    return SegmentPredictions(class_logits, masks, clip_logits, names, ImageSizes((64, 96), (60, 90), (80, 120)))


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer('zegformer_r18_world', device='cpu')


@pytest.fixture(scope='module')
def scene():
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 96))[0][..., ::-1])


@pytest.mark.parametrize('merge_iou_thr', [None, 0.4])
def test_a_look_named_is_a_call(inferencer, scene, merge_iou_thr, monkeypatch):
    monkeypatch.setattr(inferencer.model.scorer, 'merge_iou_thr', merge_iou_thr)
    look = inferencer.encode(scene)
    for classes in (None, ['grass', 'umbrella, parasol', 'lawn']):
        (wanted,) = inferencer(scene, classes=classes, return_scores=True)['predictions']
        opinions = inferencer.classify(look, classes)
        fusion = inferencer.model.fusion
        labels, segments = opinions.read(fusion)
        assert np.array_equal(labels.numpy(), wanted['label_map']) and segments == wanted['segments']
        np.testing.assert_allclose(opinions.semantic_map(fusion).numpy(), wanted['scores'], atol=1e-6)
    assert len(inferencer.model.vocabulary) == 42
    with pytest.raises(ValueError, match='vocabulary is empty'):
        inferencer.classify(look, [])
    with pytest.raises(FileNotFoundError, match='gone.png: no such file'):
        inferencer.encode('gone.png')


def test_maps_are_the_argmax_of_the_semantic_map(opinions):
    labels, segments = opinions.read(FUSION, masks=True)
    assert torch.equal(labels, opinions.semantic_map(FUSION).argmax(0)) and torch.equal(
        labels, opinions.label_map(FUSION)
    )
    assert len(segments) > 3 and sum(part['mask'].astype(int) for part in segments).tolist() == [[1] * 120] * 80
    for part in segments:
        rows, columns = np.nonzero(part['mask'])
        assert part['box'] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert part['area'] == part['mask'].sum()
        assert (labels.numpy()[part['mask']] == opinions.vocabulary.index(part['name'])).all()


@pytest.mark.parametrize('mode', ['seg', 'img', 'full', 'unseen'])
def test_previews_are_the_maps_at_their_size(opinions, mode):
    preview = Preview(opinions, (80, 120))
    found = set()
    for lam in (0.1, 0.3, 0.9):
        for gamma in (0.0, 0.2, 3.0):
            drawn = preview.label_map(mode, lam, gamma)
            assert np.array_equal(drawn, opinions.label_map(ScoreFusion(mode, lam, gamma)).numpy())
            found.add(drawn.tobytes())
    assert len(found) >= 3
    assert Preview(opinions, (20, 30)).label_map(mode, 0.3, 0.1).shape == (20, 30)


def test_previews_of_seen_classes_alone(opinions):
    seen = SegmentPredictions(
        opinions.class_logits, opinions.mask_logits, opinions.clip_logits, Vocabulary(opinions.vocabulary.names),
        opinions.geometry,
    )  # fmt: skip
    found = Preview(seen, (80, 120)).label_map('full', 0.4, 0.5)
    assert np.array_equal(found, seen.label_map(ScoreFusion('full', 0.4, 0.5)).numpy())


def test_a_pixel_is_explained(opinions):
    semantic_map, labels = opinions.semantic_map(FUSION), opinions.label_map(FUSION)
    for x, y in ((0, 0), (119, 79), (50, 33)):
        found = opinions.explain(FUSION, x, y)
        assert found['name'] == opinions.vocabulary.names[labels[y, x]]
        values = semantic_map[:, y, x].sort(descending=True).values
        np.testing.assert_allclose(
            [found['score'], *(score for _, score in found['runners_up'])], values[:6], atol=1e-6
        )
        p = opinions.scores(ScoreFusion('seg'))[found['query']]
        assert found['seg'][0] == (opinions.vocabulary.names[p.argmax()], pytest.approx(p.max().item()))
        assert 0 <= found['mask'] <= 1 and len(found['img']) == len(found['fused']) == 5
    with pytest.raises(ValueError, match=r'pixel \(120, 0\) is outside the picture of 120 x 80'):
        opinions.explain(FUSION, 120, 0)


def test_without_clips_opinion(opinions):
    alone = SegmentPredictions(opinions.class_logits, opinions.mask_logits, None, opinions.vocabulary, opinions.geometry)
    assert alone.explain(ScoreFusion('seg'), 3, 3)['img'] is None
    with pytest.raises(ValueError, match="use mode='seg'"):
        alone.label_map(FUSION)


def test_streams(inferencer, scene, tmp_path):
    (tmp_path / 'bad.jpg').write_text('no picture')
    stream = inferencer.stream([scene, tmp_path / 'bad.jpg', scene], mode='seg', masks=True, batch_size=2)
    first = next(stream)
    # A stream that is not read further keeps nobody waiting, and changes nothing for others.
    assert inferencer.model.fusion.mode == 'full' and inferencer(scene)['errors'] == []
    rest = list(stream)
    assert first['picture'].shape == (96, 96, 3) and first['error'] is None
    assert first['prediction']['segments'][0]['mask'].shape == (96, 96)
    assert rest[0]['prediction'] is None and 'bad.jpg: not a whole picture' in rest[0]['error']
    assert np.array_equal(rest[1]['prediction']['label_map'], first['prediction']['label_map'])
    with pytest.raises(ValueError, match='batch_size must be 1 or more'):
        inferencer.stream(scene, batch_size=0)


def test_another_scorer_at_a_call(inferencer, scene):
    exact, pooled = (
        inferencer(scene, mode='img', scorer=scorer, return_scores=True)['predictions'][0]['scores']
        for scorer in (None, dict(type='mmzeg.CLIPDensePoolScorer'))
    )
    assert np.abs(exact - pooled).max() > 1e-3
    again = inferencer(scene, mode='img', return_scores=True)['predictions'][0]['scores']
    assert np.array_equal(exact, again)


def test_pictures_that_the_network_cannot_take(inferencer):
    found = inferencer([np.zeros((3000, 3000, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])
    assert found['predictions'][0] is None and found['predictions'][1] is not None
    assert 'a picture of 3000 x 3000 would reach the network with more than' in found['errors'][0]['error']
