"""The page in a real browser: what a visitor does, and what others must not see of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_page_html import chips, legend
from mmzeg.apis.demo_session import Session, class_names
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
# To CLIP one word, to training two: gamma alone decides between them, whatever the weights.
TWINS = 'grass; Grass, grass'
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
SWITCHES = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update']


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    inferencer = ZeroShotInferencer(CONFIG, device='cpu')
    # So that gamma at 1 changes what text alone says, at random weights too.
    inferencer.model.fusion.gamma = 0.0
    return inferencer


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two pictures, one of them wide, and a file that is none."""
    folder = tmp_path_factory.mktemp('pictures')
    scenes = [draw_scene(Scene('test', index, 128))[0] for index in range(3)]
    Image.fromarray(scenes[0]).save(folder / 'one.png')
    Image.fromarray(np.concatenate(scenes[1:], 1)).save(folder / 'two.png')
    (folder / 'bad.png').write_bytes(b'no picture')
    return folder


@pytest.fixture(scope='module')
def address(inferencer, folder, tmp_path_factory):
    import gradio

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(tmp_path_factory.mktemp('uploads')))
        from mmzeg.apis.demo_page import build_page, serve

        page = build_page(inferencer, [str(folder / 'one.png')])
        yield serve(page, '127.0.0.1', None, '1mb')
        page.close()
        gradio.close_all()


@pytest.fixture(scope='module')
def browser(address):
    """Where root is at hand a browser is installed by tools/setup_browser.sh; elsewhere its lack is no failure."""
    if CHROMIUM is None:
        lack = 'no chromium on this machine: bash tools/setup_browser.sh installs it'
        (pytest.fail if 'CI' in os.environ or os.geteuid() == 0 else pytest.skip)(lack)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page as another visitor; every request must stay on this machine."""
    contexts, elsewhere = [], []

    def visit(width=1280):
        contexts.append(browser.new_context(viewport=dict(width=width, height=900), accept_downloads=True))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(60000)
        tab.on('request', lambda request: elsewhere.append(request.url))
        tab.goto(address)
        tab.wait_for_selector('#picture input[type=file]', state='attached')
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert [url for url in elsewhere if not url.startswith((address, 'data:', 'blob:'))] == []


def give(tab, path, names=None):
    if names is not None:
        tab.fill('#classes textarea', names)
    tab.set_input_files('#picture input[type=file]', path)
    tab.wait_for_selector('#legend table')


def source(tab, mode='full'):
    return tab.get_attribute(f'#view_{mode} img', 'src')


def slide(tab, name, value):
    """As a hand does: the value, then the events of an input."""
    before = source(tab, 'seg')
    slider = tab.locator(f'#{name} input[type=range]')
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", str(value))
    tab.wait_for_function("([b]) => document.querySelector('#view_seg img').src != b", arg=[before])


def test_a_visit(visit, folder, tmp_path):
    tab = visit()
    give(tab, folder / 'two.png', TWINS)
    tab.locator('#understood', has_text='2 classes, 1 of them unseen').wait_for()
    assert {source(tab, mode) is not None for mode in ('seg', 'img', 'full')} == {True}
    slide(tab, 'gamma', 1)
    legend = tab.inner_text('#legend')
    assert legend.count('100.0 %') == 3 and 'Grass, grass *' in legend
    tab.click('#view_full img', position=dict(x=40, y=60))
    tab.wait_for_selector('#details h3')
    said = tab.inner_text('#details')
    assert 'Mode full, pixel (' in said and 'SegmentPredictions on the segment' in said and 'Runners-up of the pixel' in said
    tab.click('#make')
    for place, kind in enumerate(('png', 'json')):
        with tab.expect_download() as download:
            tab.locator('#files a').nth(place).click()
        assert download.value.suggested_filename == f'two_full.{kind}'
        download.value.save_as(tmp_path / f'two.{kind}')
    report = json.loads((tmp_path / 'two.json').read_text())
    mask = Image.open(tmp_path / 'two.png')
    assert mask.mode == 'P' and mask.size == (256, 128) and report['gamma'] == 1
    assert [entry['trained_on'] for entry in report['classes']] == [True, False]
    named = {report['classes'][value]['name'] for value in np.unique(mask)}
    assert named == {part['name'] for part in report['segments']} == {'Grass, grass'}
    # Other names, and the results of the old ones are gone.
    tab.fill('#classes textarea', 'brick')
    tab.click('#name')
    tab.wait_for_function("() => document.querySelector('#legend').innerText.includes('brick')")
    assert tab.locator('#files a').count() == 0 and tab.inner_text('#details').strip() == ''


def test_visitors_do_not_meet(visit, folder):
    first, second = visit(), visit()
    give(first, folder / 'two.png', TWINS)
    second.click('#make')
    second.wait_for_selector('#message .error')
    assert 'no named picture' in second.inner_text('#message')
    second.click('.gallery-item')
    second.wait_for_selector('#legend table')
    slide(first, 'gamma', 1)
    shapes = [
        tab.locator('#view_full img').evaluate('e => e.naturalWidth / e.naturalHeight') for tab in (first, second)
    ]
    assert shapes == [2, 1] and 'Grass' not in second.inner_text('#legend')


def test_names_are_text(visit, folder):
    tab = visit()
    evil = [
        '<img src=x onerror="window.hit=1">',
        '<script>window.hit=1</script>',
        '${window.hit=1}',
        '{{window.hit=1}}',
    ]
    give(tab, folder / 'one.png', '\n'.join(evil))
    tab.click('#view_full img', position=dict(x=30, y=60))
    tab.wait_for_selector('#details h3')
    tab.fill('#classes textarea', '\n'.join([evil[0], evil[0]]))
    tab.click('#name')
    tab.wait_for_selector('#message .error')
    assert f'class {evil[0]!r} is listed twice' in tab.inner_text('#message')
    assert tab.evaluate('window.hit') is None
    # The results of names that are no longer there do not come back.
    tab.locator('#gamma input[type=range]').press('ArrowRight')
    tab.wait_for_timeout(300)
    assert tab.locator('#view_full img').count() == 0


def test_bad_files_are_said_in_a_line(visit, folder, tmp_path):
    tab = visit()
    give(tab, folder / 'one.png')
    tab.set_input_files('#picture input[type=file]', folder / 'bad.png')
    tab.wait_for_selector('#message .error')
    said = tab.inner_text('#message').strip()
    assert said == 'bad.png: not a whole picture (not a kind of picture that Pillow reads)'
    assert tab.locator('#view_full img').count() == 0
    noise = np.random.RandomState(0).randint(0, 256, (800, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'large.png')
    tab.reload()
    tab.set_input_files('#picture input[type=file]', tmp_path / 'large.png')
    tab.get_by_text('exceed').first.wait_for()


def test_a_pixel_by_the_keyboard(visit, folder):
    tab = visit()
    give(tab, folder / 'two.png', TWINS)
    for name, value in (('x', 200), ('y', 60)):
        tab.fill(f'#pixel_{name} input', str(value))
    before = source(tab)
    tab.press('#point', 'Enter')
    tab.wait_for_selector('#details h3')
    assert 'Mode full, pixel (200, 60)' in tab.inner_text('#details')
    tab.wait_for_function("([b]) => document.querySelector('#view_full img').src != b", arg=[before])
    tab.fill('#pixel_x input', '256')
    tab.press('#point', 'Enter')
    tab.wait_for_selector('#details .error')
    assert 'pixel (256, 60) is outside the picture of 256 x 128' in tab.inner_text('#details')


def test_on_a_phone(visit, folder):
    tab = visit(390)
    give(tab, folder / 'two.png')
    tab.click('#view_full img', position=dict(x=40, y=60))
    tab.wait_for_selector('#details h3')
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390
    boxes = [tab.locator(f'#view_{mode}').bounding_box() for mode in ('seg', 'img', 'full')]
    assert all(box['width'] > 300 for box in boxes) and boxes[0]['y'] < boxes[1]['y'] < boxes[2]['y']
    nameless = tab.locator('button, input:not([type=file]), textarea').evaluate_all(
        """found => found.filter(e => e.offsetParent && !(e.getAttribute('aria-label') || e.innerText?.trim() ||
           e.querySelector('img[alt]')?.alt ||           e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert nameless == []


def test_as_the_inferencers_own(inferencer, folder):
    """A large picture is drawn smaller; what is said of it and the files are of its own pixels."""
    Image.open(folder / 'two.png').resize((1280, 640)).save(folder / 'large.png')
    fusion = ScoreFusion('full', 0.4, 0.05)
    visit = Session.begin(inferencer, str(folder / 'large.png'))
    visit = visit.named(inferencer, ['grass', 'lawn', 'brick', 'sky'])
    (own,) = inferencer(str(folder / 'large.png'), ['grass', 'lawn', 'brick', 'sky'], mode='full', lam=0.4, gamma=0.05)[
        'predictions'
    ]
    contents = visit.files(fusion)
    (folder / 'mask.png').write_bytes(contents['large_full.png'])
    assert np.array_equal(np.asarray(Image.open(folder / 'mask.png')), own['label_map'])
    drawn, shares = visit.draw(fusion)
    assert (
        drawn.shape == (240, 480, 3)
        and abs(shares - np.bincount(own['label_map'].ravel(), minlength=4) / 819200).max() < 0.01
    )
    outlined, found = visit.explain(fusion, *visit.pixel(100, 50))
    assert (found['x'], found['y']) == (268, 134) and own['classes'][own['label_map'][134, 268]] == found['name']
    assert 0 < found['share'] <= 1 and (outlined != drawn).any()


def test_class_names():
    assert class_names(' cat ,kitten ;; dog\n\n sofa ') == ['cat, kitten', 'dog', 'sofa']
    for text, message in (
        (' ;\n,', 'no class name'),
        ('a;a', 'listed twice'),
        (';'.join(map(str, range(1001))), '1001'),
    ):
        with pytest.raises(ValueError, match=message):
            class_names(text)
    assert chips(['<b>', 'sky'], ['sky']).count('&lt;b&gt;') == 1


def test_only_uploads_are_opened(inferencer, folder, tmp_path, monkeypatch):
    from mmzeg.apis.demo_page import Actions

    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    actions = Actions(inferencer)
    for path in (folder / 'one.png', tmp_path / '..' / 'one.png', None):
        visit, said, *_ = actions.open(dict(path=str(path)), 'sky', 0, 0)
        assert visit is None and 'this is no upload' in said
    shutil.copy(folder / 'one.png', tmp_path)
    visit, said, *_ = actions.open(dict(path=str(tmp_path / 'one.png')), 'sky', 0, 0)
    assert visit.file == 'one.png' and said == ''


def test_examples_are_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    from webapp import example_files

    with pytest.raises(FileNotFoundError, match='no picture in it'):
        example_files(tmp_path, None)
    with pytest.raises(FileNotFoundError, match='gone: no such folder'):
        example_files(tmp_path / 'gone', None)
    assert len(example_files(None, tmp_path)) == 5


def test_a_share_that_is_not_nothing_is_not_told_as_nothing():
    assert '&lt; 0.1 %' in legend(Vocabulary(['sky', 'dog']), dict(seg=np.array([0.9999, 0.0001])))


@pytest.mark.parametrize('option, value', [('--port', '99999'), ('--max-upload', 'much')])
def test_options_are_checked_before_the_model_is_loaded(monkeypatch, capsys, option, value):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import webapp

    monkeypatch.setattr(sys, 'argv', ['webapp.py', str(CONFIG), 'gone.pth', option, value])
    with pytest.raises(SystemExit) as refused:
        webapp.main()
    assert refused.value.code == 2 and f'{option} {value}: give a' in capsys.readouterr().err


def test_the_tool(inferencer, tmp_path):
    torch.save(dict(state_dict=inferencer.model.state_dict()), tmp_path / 'weights.pth')
    environment = os.environ | dict(OMP_NUM_THREADS='1', TMPDIR=str(tmp_path), PYTHONWARNINGS='ignore')
    command = [sys.executable, str(ROOT / 'tools/webapp.py'), str(CONFIG), str(tmp_path / 'weights.pth')]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = subprocess.Popen(command, env=environment, **pipes)
    try:
        line = next(line for line in server.stdout if 'the page is at' in line)
        address = re.search(r'http://127\.0\.0\.1:\d+/', line)[0]
        html = urllib.request.urlopen(address).read().decode()
        assert 'fonts.googleapis' not in html and 'mmzeg' in html
        assert list(tmp_path.glob('mmzeg_page_*'))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
    assert not list(tmp_path.glob('mmzeg_page_*'))
