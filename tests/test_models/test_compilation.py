"""torch.compile of a model's networks: the same results and weights; options that torch does not take."""

from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS

TINY_CLIP = Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'


@pytest.fixture(autouse=True)
def forget_compiled_code():
    yield
    torch._dynamo.reset()


class RecordingBackend:
    """A backend of torch.compile that runs the traced graphs as they are, and keeps them."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture
def backend():
    return RecordingBackend()


@pytest.fixture
def models(world, backend):
    """Return a model, and one with the same weights that is compiled."""
    world.scorer.update(clip=dict(type='mmzeg.CLIP', pretrained=str(TINY_CLIP)), prompts='single')
    model = MODELS.build(world)
    compiled = MODELS.build(dict(world, compile=dict(backend=backend)))
    compiled.load_state_dict(model.state_dict())
    return model, compiled


def test_logits_of_a_test(models, backend):
    inputs = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    meta = dict(img_shape=(96, 128), ori_shape=(96, 128), pad_shape=(96, 128))
    with torch.no_grad():
        results, expected = (model.eval().predict_logits(inputs, [meta]) for model in reversed(models))
    for logits, expected_logits in zip(results, expected, strict=True):
        torch.testing.assert_close(logits, expected_logits)
    assert len(backend.graphs) >= 3


def test_embeddings_of_crops(models, backend):
    crops = torch.randn(2, 3, *models[0].scorer.clip.image_size, generator=torch.Generator().manual_seed(2))
    expected, embeddings = (model.scorer.clip.encode_image(crops) for model in models)
    torch.testing.assert_close(embeddings, expected)
    assert backend.graphs


def test_losses_of_a_training_step(models, backend, labelled_batch):
    batch = labelled_batch(0, 3)
    losses, expected = (model.train().loss(*batch) for model in models)
    assert losses.keys() == expected.keys() and len(backend.graphs) >= 3
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(backend='fast'), "model.compile={'backend': 'fast'}: torch.compile does not take it"),
        (dict(speed=2), "model.compile={'speed': 2}: torch.compile does not take it"),
    ],
)
def test_bad_options(world, options, message):
    world.compile = options
    with pytest.raises(ValueError, match=message):
        MODELS.build(world)
