"""The page of how a result came about."""

import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/zegformer_r18_world.py'
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
import explain  # noqa: E402


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
    """The tool, in this process."""

    def run(*arguments):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', ['explain.py', CONFIG, *map(str, arguments)])
        explain.main()

    return run


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('explain')
    torch.manual_seed(0)
    model = ZeroShotInferencer(ROOT / CONFIG, device='cpu').model
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    picture = draw_scene(Scene('test', 3, 64))[0]
    Image.fromarray(picture).save(folder / 'scene <1>.png')
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / 'labels.png')
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(folder / 'small.png')
    return folder


def test_page_is_whole_and_needs_no_network(folder, run):
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
        (['scene <1>.png', '--pixel', 64, 0], 'pixel (64, 0) is outside the picture of 64 x 64'),
        (['scene <1>.png', '--labels', 'small.png'], 'the label map is of (4, 6) pixels and the picture of (64, 64)'),
        (['scene <1>.png', '--labels', 'none.png'], 'none.png: no such label map'),
    ],
)
def test_bad_input(folder, run, capsys, arguments, message):
    paths = [folder / part if str(part).endswith('.png') else part for part in arguments]
    with pytest.raises(SystemExit) as stopped:
        run(folder / 'weights.pth', *paths, '--out', folder / 'bad.html')
    assert stopped.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / 'bad.html').exists()


def test_errors_by_kind():
    """Two segments, halves of a picture: the left one is named well, the right one otherwise, or by calibration."""
    errors_by_kind = explain.errors_by_kind
    masks = torch.full((2, 4, 8), -20.0)
    masks[0, :, :4], masks[1, :, 4:] = 20.0, 20.0
    names = Vocabulary(['a', 'b', 'c'], unseen=['c'])
    logits = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 8.9, 0]])
    opinions = SegmentPredictions(logits, masks, None, names, ImageSizes((4, 8), (4, 8), (4, 8)))
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, 1]] * 4)
    assert errors_by_kind(opinions, ScoreFusion('seg', gamma=0.0), truth) == dict(calibration=0, name=0, segment=0)
    assert errors_by_kind(opinions, ScoreFusion('seg', gamma=0.2), truth) == dict(calibration=50, name=0, segment=0)
    truth[:, 4:7] = 2
    assert errors_by_kind(opinions, ScoreFusion('seg', gamma=0.0), truth) == dict(calibration=0, name=37.5, segment=0)
    truth[:, :4], truth[:, 4:] = [0, 0, 0, 2], [1, 1, 255, 255]
    assert errors_by_kind(opinions, ScoreFusion('seg', gamma=0.0), truth)['segment'] == pytest.approx(100 / 6)
    with pytest.raises(ValueError, match='label values must be 0 to 2'):
        errors_by_kind(opinions, ScoreFusion('seg'), np.full((4, 8), 3))
