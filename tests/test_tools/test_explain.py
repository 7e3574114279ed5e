"""The explanation of a prediction in one HTML file, and wrong pixels by their cause."""

import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.pixel_errors import errors_by_cause
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/zegformer_r18_world.py'


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ('src', 'href')]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(monkeypatch):
    """Runs the tool in this process."""

    def run(*arguments):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', ['explain.py', CONFIG, *map(str, arguments)])
        load_tool('tools/analysis_tools/explain.py').main()

    return run


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('explain')
    torch.manual_seed(0)
    model = ZeroShotInferencer(ROOT / CONFIG, device='cpu').model
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    image = draw_scene(Scene('test', 3, 64))[0]
    Image.fromarray(image).save(folder / 'scene <1>.png')
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / 'labels.png')
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(folder / 'small.png')
    return folder


def test_page_is_complete_and_needs_no_network(folder, run):
    run(
        folder / 'weights.pth', folder / 'scene <1>.png', '--out', folder / 'page.html', '--classes',
        'grass; <script>alert(1)</script>, umbrella; sand', '--labels', folder / 'labels.png', '--pixel', 5, 60,
    )  # fmt: skip
    reader = Reader()
    reader.feed((folder / 'page.html').read_text())
    assert 'script' not in reader.tags and reader.tags.count('table') == 3
    assert all(link.startswith('data:image/png;base64,') for link in reader.links) and len(reader.links) >= 3
    text = ' '.join(reader.text)
    assert 'scene <1>.png' in text and 'Pixel 5, 60' in text and '<script>alert(1)</script>, umbrella' in text


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['gone.png'], 'gone.png: no such file'),
        (['scene <1>.png', '--pixel', 64, 0], 'pixel (64, 0) is outside the image of 64 x 64'),
        (['scene <1>.png', '--labels', 'small.png'], 'the label map is 4 x 6 pixels, the image 64 x 64'),
        (['scene <1>.png', '--labels', 'none.png'], 'none.png: no such label map'),
    ],
)
def test_bad_input(folder, run, capsys, arguments, message):
    paths = [folder / argument if str(argument).endswith('.png') else argument for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        run(folder / 'weights.pth', *paths, '--out', folder / 'bad.html')
    assert stopped.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / 'bad.html').exists()


def test_errors_by_cause():
    """Two segments, halves of an image: the left one is right, the right one wrong by classification or calibration."""
    masks = torch.full((2, 4, 8), -20.0)
    masks[0, :, :4] = 20.0
    masks[1, :, 4:] = 20.0
    vocabulary = Vocabulary(['a', 'b', 'c'], unseen=['c'])
    logits = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 8.9, 0]])
    predictions = SegmentPredictions(logits, masks, None, vocabulary, ImageSizes((4, 8), (4, 8), (4, 8)))
    annotation = np.array([[0, 0, 0, 0, 1, 1, 1, 1]] * 4)

    def errors(gamma):
        return errors_by_cause(predictions, ScoreFusion('seg', gamma=gamma), annotation)

    assert errors(0.0) == dict(calibration=0, classification=0, mask=0)
    assert errors(0.2) == dict(calibration=50, classification=0, mask=0)
    annotation[:, 4:7] = 2
    assert errors(0.0) == dict(calibration=0, classification=37.5, mask=0)
    annotation[:, :4] = [0, 0, 0, 2]
    annotation[:, 4:] = [1, 1, 255, 255]
    assert errors(0.0)['mask'] == pytest.approx(100 / 6)
    annotation[:] = 3
    with pytest.raises(ValueError, match='is not a class: label values must be 0 to 2'):
        errors(0.0)
