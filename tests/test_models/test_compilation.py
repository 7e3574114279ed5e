"""torch.compile of a model's networks: the same results and weights; options that torch does not take."""

import copy
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS

from mmzeg.models.proposals import ProposalBatch
from mmzeg.utils.compiled_functions import compile_function

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


class ReplayedFunctions:
    """In the place of torch.compile: outputs last until a function starts, as with CUDA graphs, then become NaN."""

    def __init__(self):
        self.outputs = []

    def compile(self, function, **options):
        def replay(*args, **kwargs):
            for output in self.outputs:
                output.fill_(torch.nan)
            outputs = function(*args, **kwargs)
            self.outputs = [outputs] if torch.is_tensor(outputs) else [*filter(torch.is_tensor, outputs)]
            return outputs

        return replay


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


def check_logits(compiled, model, inputs):
    meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), inputs.shape[-2:])
    with torch.no_grad():
        results, expected = (model.eval().predict_logits(inputs, [meta]) for model in (compiled, model))
    for logits, expected_logits in zip(results, expected, strict=True):
        torch.testing.assert_close(logits, expected_logits)


def test_logits_of_a_test(models, backend):
    model, compiled = models
    check_logits(compiled, model, torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1)))
    assert len(backend.graphs) >= 3


def test_embeddings_of_crops(models, backend):
    crops = torch.randn(2, 3, *models[0].scorer.clip.image_size, generator=torch.Generator().manual_seed(2))
    clip, compiled_clip = (model.scorer.clip for model in models)
    # The embeddings of a chunk are kept while the next is encoded.
    embeddings = [compiled_clip.encode_image(chunk) for chunk in crops.split(1)]
    torch.testing.assert_close(torch.cat(embeddings), clip.encode_image(crops))
    assert backend.graphs


def test_a_copy_runs_its_own_weights(models):
    model, compiled = models
    average = copy.deepcopy(compiled).eval()
    for parameter in [*model.parameters(), *average.parameters()]:
        parameter.data.mul_(1.5)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for features, expected in zip(average.extract_feat(image), model.eval().extract_feat(image), strict=True):
            torch.testing.assert_close(features, expected)


def test_outputs_outlast_the_next_graph(world, monkeypatch):
    replayed = ReplayedFunctions()
    monkeypatch.setattr(torch, 'compile', replayed.compile)
    world.scorer.update(clip=dict(type='mmzeg.CLIP', pretrained=str(TINY_CLIP)), prompts='single')
    world.execution = dict(mode='tiled', crops_mib=2)
    model = MODELS.build(world)
    compiled = MODELS.build(dict(world, compile=dict(mode='reduce-overhead')))
    compiled.load_state_dict(model.state_dict())
    inputs = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    check_logits(compiled, model, inputs)
    assert replayed.outputs


def test_outputs_keep_their_kind(monkeypatch):
    """A mask model returns a named tuple with a field that may be None."""
    monkeypatch.setattr(torch, 'compile', lambda function, **options: function)
    batch = ProposalBatch([torch.ones(2, 3)], [torch.zeros(2)])
    value = dict(batch=(batch, [torch.ones(1)], None))['batch']
    copied = compile_function(lambda: value, dict(mode='reduce-overhead'))()
    assert type(copied[0]) is ProposalBatch and type(copied[1]) is list and copied[2] is None
    for ours, original in zip((*copied[0], copied[1]), (*batch, value[1]), strict=True):
        assert torch.equal(ours[0], original[0]) and ours[0] is not original[0]


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
