"""An image encoded once and classified many times: equal to whole calls, and to the label maps of every setting."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.preview import Preview
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models import Execution
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.vocabulary import Vocabulary

FUSION = ScoreFusion('full', 0.6, 0.1)


@pytest.fixture(scope='module')
def predictions():
    """12 segments with clear masks, 9 classes, 4 of them unseen; padded, and not at the network's size."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.nn.functional.interpolate(torch.randn(1, 12, 5, 6, generator=generator) * 8, size=(16, 24))[0]
    vocabulary = Vocabulary([f'class {index}' for index in range(9)], [f'class {index}' for index in (1, 4, 5, 8)])
    class_logits = torch.randn(12, 10, generator=generator) * 3
    clip_logits = torch.randn(12, 9, generator=generator) * 3
    return SegmentPredictions(class_logits, masks, clip_logits, vocabulary, ImageSizes((64, 96), (60, 90), (80, 120)))


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    return ZeroShotInferencer('zegformer_r18_world', device='cpu')


@pytest.fixture(scope='module')
def scene():
    """BGR, as OpenCV reads it."""
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 96))[0][..., ::-1])


@pytest.mark.parametrize('merge_iou_thr', [None, 0.4])
def test_encode_and_classify_equal_a_call(inferencer, scene, merge_iou_thr, monkeypatch):
    monkeypatch.setattr(inferencer.model.scorer, 'merge_iou_thr', merge_iou_thr)
    encoded = inferencer.encode(scene)
    for classes in (None, ['grass', 'umbrella, parasol', 'lawn']):
        (expected,) = inferencer(scene, classes=classes, return_scores=True)['predictions']
        predictions = inferencer.classify(encoded, classes)
        fusion = inferencer.model.fusion
        labels, segments = predictions.label_map_and_segments(fusion)
        assert np.array_equal(labels.numpy(), expected['label_map']) and segments == expected['segments']
        np.testing.assert_allclose(predictions.semantic_map(fusion).numpy(), expected['scores'], atol=1e-6)
    assert len(inferencer.model.vocabulary) == 42
    with pytest.raises(ValueError, match='vocabulary is empty'):
        inferencer.classify(encoded, [])
    with pytest.raises(FileNotFoundError, match='gone.png: no such file'):
        inferencer.encode('gone.png')


def test_label_maps_are_the_argmax_of_the_semantic_map(predictions):
    labels, segments = predictions.label_map_and_segments(FUSION, masks=True)
    assert torch.equal(labels, predictions.semantic_map(FUSION).argmax(0))
    assert torch.equal(labels, predictions.label_map(FUSION))
    assert len(segments) > 3 and sum(segment['mask'].astype(int) for segment in segments).tolist() == [[1] * 120] * 80
    for segment in segments:
        rows, columns = np.nonzero(segment['mask'])
        assert segment['box'] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert segment['area'] == segment['mask'].sum()
        assert (labels.numpy()[segment['mask']] == predictions.vocabulary.index(segment['name'])).all()


@pytest.mark.parametrize('mode', ['seg', 'img', 'full', 'unseen'])
def test_previews_are_the_label_maps_at_their_size(predictions, mode):
    preview = Preview(predictions, (80, 120))
    label_maps = set()
    for lam in (0.1, 0.3, 0.9):
        for gamma in (0.0, 0.2, 3.0):
            label_map = preview.label_map(ScoreFusion(mode, lam, gamma))
            assert np.array_equal(label_map, predictions.label_map(ScoreFusion(mode, lam, gamma)).numpy())
            label_maps.add(label_map.tobytes())
    assert len(label_maps) >= 3
    assert Preview(predictions, (20, 30)).label_map(ScoreFusion(mode, 0.3, 0.1)).shape == (20, 30)


def test_previews_of_seen_classes_only(predictions):
    all_seen = SegmentPredictions(
        predictions.class_logits,
        predictions.mask_logits,
        predictions.clip_logits,
        Vocabulary(predictions.vocabulary.names),
        predictions.sizes,
    )
    label_map = Preview(all_seen, (80, 120)).label_map(ScoreFusion('full', 0.4, 0.5))
    assert np.array_equal(label_map, all_seen.label_map(ScoreFusion('full', 0.4, 0.5)).numpy())


def test_a_pixel_is_explained(predictions):
    semantic_map = predictions.semantic_map(FUSION)
    labels = predictions.label_map(FUSION)
    for x, y in ((0, 0), (119, 79), (50, 33)):
        explanation = predictions.explain_pixel(FUSION, x, y)
        assert explanation['name'] == predictions.vocabulary.names[labels[y, x]]
        scores = [explanation['score'], *(score for _, score in explanation['runners_up'])]
        np.testing.assert_allclose(scores, semantic_map[:, y, x].sort(descending=True).values[:6], atol=1e-6)
        seg_probs = predictions.scores(ScoreFusion('seg'))[explanation['query']]
        best_name = predictions.vocabulary.names[seg_probs.argmax()]
        assert explanation['seg'][0] == (best_name, pytest.approx(seg_probs.max().item()))
        assert 0 <= explanation['mask'] <= 1 and len(explanation['img']) == len(explanation['fused']) == 5
    with pytest.raises(ValueError, match=r'pixel \(120, 0\) is outside the image of 120 x 80'):
        predictions.explain_pixel(FUSION, 120, 0)


# Every map that predictions make
MAPS = {
    'label map': lambda predictions: predictions.label_map(FUSION).numpy(),
    'margins': lambda predictions: torch.stack(predictions.label_map_and_margins(FUSION)).numpy(),
    'segments': lambda predictions: predictions.label_map_and_segments(FUSION)[0].numpy(),
    'semantic map': lambda predictions: predictions.semantic_map(FUSION).numpy(),
    'pixel': lambda predictions: predictions.explain_pixel(FUSION, 50, 33)['score'],
    'preview': lambda predictions: Preview(predictions, (80, 120)).label_map(FUSION),
}


@pytest.mark.parametrize('name', MAPS)
def test_execution_bounds_every_map(predictions, name):
    tiled, batched = (
        MAPS[name](replace(predictions, execution=execution))
        for execution in (Execution('tiled', map_mib=0.1), Execution('batched'))
    )
    np.testing.assert_allclose(tiled, batched, atol=1e-6)
    with pytest.raises(ValueError, match='map_mib=0.001 is too small for one row of the label map'):
        MAPS[name](replace(predictions, execution=Execution(map_mib=0.001)))


def test_the_inferencers_maps_take_the_models_execution(inferencer, scene, monkeypatch):
    encoded = inferencer.encode(scene)
    monkeypatch.setattr(inferencer.model, 'execution', Execution('batched', map_mib=0.001))
    assert inferencer.classify(encoded).execution is inferencer.model.execution
    with pytest.raises(ValueError, match='map_mib=0.001 is too small'):
        inferencer(scene)


def test_without_clip_logits(predictions):
    text_only = SegmentPredictions(
        predictions.class_logits, predictions.mask_logits, None, predictions.vocabulary, predictions.sizes
    )
    assert text_only.explain_pixel(ScoreFusion('seg'), 3, 3)['img'] is None
    with pytest.raises(ValueError, match="use mode='seg'"):
        text_only.label_map(FUSION)


def test_streams(inferencer, scene, tmp_path):
    (tmp_path / 'bad.jpg').write_text('not an image')
    stream = inferencer.stream([scene, tmp_path / 'bad.jpg', scene], mode='seg', masks=True, batch_size=2)
    first = next(stream)
    # A stream that is not read to its end blocks no other call, and changes nothing for others.
    assert inferencer.model.fusion.mode == 'full' and inferencer(scene)['errors'] == []
    second, third = stream
    assert first['image'].shape == (96, 96, 3) and first['error'] is None
    assert first['prediction']['segments'][0]['mask'].shape == (96, 96)
    assert second['prediction'] is None and 'bad.jpg: truncated or not an image' in second['error']
    assert np.array_equal(third['prediction']['label_map'], first['prediction']['label_map'])
    with pytest.raises(ValueError, match='batch_size must be 1 or more'):
        inferencer.stream(scene, batch_size=0)


def test_another_scorer_at_a_call(inferencer, scene):
    default, pooled = (
        inferencer(scene, mode='img', scorer=scorer, return_scores=True)['predictions'][0]['scores']
        for scorer in (None, dict(type='mmzeg.CLIPDensePoolScorer'))
    )
    assert np.abs(default - pooled).max() > 1e-3
    default_again = inferencer(scene, mode='img', return_scores=True)['predictions'][0]['scores']
    assert np.array_equal(default, default_again)


def test_images_that_are_too_large_for_the_network(inferencer):
    result = inferencer([np.zeros((3000, 3000, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])
    assert result['predictions'][0] is None and result['predictions'][1] is not None
    assert 'an image of 3000 x 3000 would reach the network with more than' in result['errors'][0]['error']
