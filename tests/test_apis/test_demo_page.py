"""The demo page in a real browser: what a user does, and what other users must not see."""

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
from tool_loading import load_tool

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_page_html import class_chips, legend_table
from mmzeg.apis.demo_session import Session, parse_typed_names
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.models.fusion import ScoreFusion
from mmzeg.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
# One word for CLIP, two classes for the model: gamma alone decides between them, whatever the weights.
TWINS = 'grass; Grass, grass'


@pytest.fixture(scope='module')
def inferencer():
    torch.manual_seed(0)
    inferencer = ZeroShotInferencer(CONFIG, device='cpu')
    # So that gamma = 1 changes the result of mode seg, with random weights too.
    inferencer.model.fusion.gamma = 0.0
    return inferencer


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two images, one of them wide, and a file that is none."""
    folder = tmp_path_factory.mktemp('images')
    scenes = [draw_scene(Scene('test', index, 128))[0] for index in range(3)]
    Image.fromarray(scenes[0]).save(folder / 'square.png')
    Image.fromarray(np.concatenate(scenes[1:], 1)).save(folder / 'wide.png')
    (folder / 'bad.png').write_bytes(b'not an image')
    return folder


@pytest.fixture(scope='module')
def address(inferencer, folder, tmp_path_factory):
    import gradio

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(tmp_path_factory.mktemp('uploads')))
        from mmzeg.apis.demo_page import build_page, serve

        page = build_page(inferencer, [str(folder / 'square.png')])
        yield serve(page, '127.0.0.1', None, '1mb')
        page.close()
        gradio.close_all()


@pytest.fixture
def open_page(address, browser):
    """Opens the page as another user; every request must stay on this machine."""
    contexts = []
    requests = []

    def open_page(width=1280):
        contexts.append(browser.new_context(viewport=dict(width=width, height=900), accept_downloads=True))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(60000)
        tab.on('request', lambda request: requests.append(request.url))
        tab.goto(address)
        tab.wait_for_selector('#image input[type=file]', state='attached')
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith((address, 'data:', 'blob:'))] == []


def segment(tab, path, names=None):
    if names is not None:
        tab.fill('#class_names textarea', names)
    tab.set_input_files('#image input[type=file]', path)
    tab.wait_for_selector('#legend table')


def result_url(tab, mode='full'):
    return tab.get_attribute(f'#result_{mode} img', 'src')


def move_slider(tab, name, value):
    """As a hand does: the value, then the event of an input."""
    before = result_url(tab, 'seg')
    slider = tab.locator(f'#{name} input[type=range]')
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", str(value))
    tab.wait_for_function("([b]) => document.querySelector('#result_seg img').src != b", arg=[before])


def test_all_steps_of_a_user(open_page, folder, tmp_path):
    tab = open_page()
    segment(tab, folder / 'wide.png', TWINS)
    tab.locator('#parsed_names', has_text='2 classes, 1 of them unseen').wait_for()
    assert all(result_url(tab, mode) is not None for mode in ('seg', 'img', 'full'))
    # Calibration by the slider, then a click.
    move_slider(tab, 'gamma', 1)
    legend = tab.inner_text('#legend')
    assert legend.count('100.0 %') == 3 and 'Grass, grass *' in legend
    tab.click('#result_full img', position=dict(x=40, y=60))
    tab.wait_for_selector('#explanation h3')
    explanation = tab.inner_text('#explanation')
    assert 'Mode full, pixel (' in explanation
    assert 'Scores of the segment' in explanation and 'Runners-up at the pixel' in explanation
    # Files.
    tab.click('#make_files')
    for index, suffix in enumerate(('png', 'json')):
        with tab.expect_download() as download:
            tab.locator('#files a').nth(index).click()
        assert download.value.suggested_filename == f'wide_full.{suffix}'
        download.value.save_as(tmp_path / f'wide.{suffix}')
    report = json.loads((tmp_path / 'wide.json').read_text())
    mask = Image.open(tmp_path / 'wide.png')
    assert mask.mode == 'P' and mask.size == (256, 128) and report['gamma'] == 1
    assert [entry['trained_on'] for entry in report['classes']] == [True, False]
    mask_names = {report['classes'][value]['name'] for value in np.unique(mask)}
    assert mask_names == {segment['name'] for segment in report['segments']} == {'Grass, grass'}
    # Other class names remove the results of the old ones.
    tab.fill('#class_names textarea', 'brick')
    tab.click('#segment')
    tab.wait_for_function("() => document.querySelector('#legend').innerText.includes('brick')")
    assert tab.locator('#files a').count() == 0 and tab.inner_text('#explanation').strip() == ''


def test_labels_are_the_terms_of_the_docs(open_page):
    tab = open_page()
    labels = ('Image', 'Class names', 'Segment', 'Calibration (gamma)', 'Ensemble weight (lambda)', 'Why this label?')
    for label in labels:
        tab.get_by_text(label, exact=True).first.wait_for()


def test_users_do_not_share_sessions(open_page, folder):
    first = open_page()
    second = open_page()
    segment(first, folder / 'wide.png', TWINS)
    second.click('#make_files')
    second.wait_for_selector('#message .error')
    assert 'no segmented image' in second.inner_text('#message')
    second.click('.gallery-item')
    second.wait_for_selector('#legend table')
    move_slider(first, 'gamma', 1)
    aspect_ratios = [
        tab.locator('#result_full img').evaluate('e => e.naturalWidth / e.naturalHeight') for tab in (first, second)
    ]
    assert aspect_ratios == [2, 1] and 'Grass' not in second.inner_text('#legend')


def test_class_names_are_text(open_page, folder):
    tab = open_page()
    harmful = [
        '<img src=x onerror="window.hit=1">',
        '<script>window.hit=1</script>',
        '${window.hit=1}',
        '{{window.hit=1}}',
    ]
    segment(tab, folder / 'square.png', '\n'.join(harmful))
    tab.click('#result_full img', position=dict(x=30, y=60))
    tab.wait_for_selector('#explanation h3')
    tab.fill('#class_names textarea', '\n'.join([harmful[0], harmful[0]]))
    tab.click('#segment')
    tab.wait_for_selector('#message .error')
    assert f'class {harmful[0]!r} is listed twice' in tab.inner_text('#message')
    assert tab.evaluate('window.hit') is None
    # The results of class names that are no longer there do not come back.
    tab.locator('#gamma input[type=range]').press('ArrowRight')
    tab.wait_for_timeout(300)
    assert tab.locator('#result_full img').count() == 0


def test_errors_of_bad_files_have_one_line(open_page, folder, tmp_path):
    tab = open_page()
    segment(tab, folder / 'square.png')
    tab.set_input_files('#image input[type=file]', folder / 'bad.png')
    tab.wait_for_selector('#message .error')
    message = tab.inner_text('#message').strip()
    assert message == 'bad.png: truncated or not an image (a format that Pillow does not read)'
    assert tab.locator('#result_full img').count() == 0
    noise = np.random.RandomState(0).randint(0, 256, (800, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'large.png')
    tab.reload()
    tab.set_input_files('#image input[type=file]', tmp_path / 'large.png')
    tab.get_by_text('exceed').first.wait_for()


def test_a_pixel_by_the_keyboard(open_page, folder):
    tab = open_page()
    segment(tab, folder / 'wide.png', TWINS)
    for axis, value in (('x', 200), ('y', 60)):
        tab.fill(f'#pixel_{axis} input', str(value))
    before = result_url(tab)
    tab.press('#explain', 'Enter')
    tab.wait_for_selector('#explanation h3')
    assert 'Mode full, pixel (200, 60)' in tab.inner_text('#explanation')
    tab.wait_for_function("([b]) => document.querySelector('#result_full img').src != b", arg=[before])
    tab.fill('#pixel_x input', '256')
    tab.press('#explain', 'Enter')
    tab.wait_for_selector('#explanation .error')
    assert 'pixel (256, 60) is outside the image of 256 x 128' in tab.inner_text('#explanation')


def test_on_a_phone(open_page, folder):
    tab = open_page(390)
    segment(tab, folder / 'wide.png')
    tab.click('#result_full img', position=dict(x=40, y=60))
    tab.wait_for_selector('#explanation h3')
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390
    boxes = [tab.locator(f'#result_{mode}').bounding_box() for mode in ('seg', 'img', 'full')]
    assert all(box['width'] > 300 for box in boxes) and boxes[0]['y'] < boxes[1]['y'] < boxes[2]['y']
    without_name = tab.locator('button, input:not([type=file]), textarea').evaluate_all(
        """elements => elements.filter(e => e.offsetParent && !(e.getAttribute('aria-label') || e.innerText?.trim() ||
           e.querySelector('img[alt]')?.alt || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert without_name == []


def test_session_equals_the_inferencer(inferencer, folder):
    """A large image is drawn smaller; explanations and files are of its original pixels."""
    Image.open(folder / 'wide.png').resize((1280, 640)).save(folder / 'large.png')
    names = ['grass', 'lawn', 'brick', 'sky']
    path = str(folder / 'large.png')
    fusion = ScoreFusion('full', 0.4, 0.05)
    session = Session.start(inferencer, path).classify(inferencer, names)
    (expected,) = inferencer(path, names, mode='full', lam=0.4, gamma=0.05)['predictions']
    files = session.result_files(fusion)
    (folder / 'mask.png').write_bytes(files['large_full.png'])
    assert np.array_equal(np.asarray(Image.open(folder / 'mask.png')), expected['label_map'])
    drawing, areas = session.draw(fusion)
    expected_areas = np.bincount(expected['label_map'].ravel(), minlength=4) / 819200
    assert drawing.shape == (240, 480, 3) and abs(areas - expected_areas).max() < 0.01
    outlined, explanation = session.explain_pixel(fusion, *session.original_pixel(100, 50))
    assert (explanation['x'], explanation['y']) == (268, 134)
    assert explanation['name'] == expected['classes'][expected['label_map'][134, 268]]
    assert 0 < explanation['area'] <= 1 and (outlined != drawing).any()


def test_typed_class_names():
    assert parse_typed_names(' cat ,kitten ;; dog\n\n sofa ') == ['cat, kitten', 'dog', 'sofa']
    for text, message in (
        (' ;\n,', 'no class name'),
        ('a;a', 'listed twice'),
        (';'.join(map(str, range(1001))), '1001'),
    ):
        with pytest.raises(ValueError, match=message):
            parse_typed_names(text)
    assert class_chips(['<b>', 'sky'], ['sky']).count('&lt;b&gt;') == 1


def test_only_uploads_are_opened(inferencer, folder, tmp_path, monkeypatch):
    from mmzeg.apis.demo_page_events import EventHandlers

    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    handlers = EventHandlers(inferencer)
    for path in (folder / 'square.png', tmp_path / '..' / 'square.png', None):
        session, message, *_ = handlers.load_image(dict(path=str(path)), 'sky', 0, 0)
        assert session is None and 'not an uploaded file' in message
    shutil.copy(folder / 'square.png', tmp_path)
    session, message, *_ = handlers.load_image(dict(path=str(tmp_path / 'square.png')), 'sky', 0, 0)
    assert session.file == 'square.png' and message == ''


def test_example_files(tmp_path):
    example_files = load_tool('tools/webapp.py').example_files
    with pytest.raises(FileNotFoundError, match='no image in it'):
        example_files(tmp_path, None)
    with pytest.raises(FileNotFoundError, match='gone: no such folder'):
        example_files(tmp_path / 'gone', None)
    assert len(example_files(None, tmp_path)) == 5


def test_small_areas_are_not_rounded_to_zero():
    areas = dict(seg=np.array([0.9999, 0.0001]))
    assert '&lt; 0.1 %' in legend_table(Vocabulary(['sky', 'dog']), areas)


@pytest.mark.parametrize('option, value', [('--port', '99999'), ('--max-upload', 'much')])
def test_options_are_checked_before_the_model_is_loaded(monkeypatch, capsys, option, value):
    webapp = load_tool('tools/webapp.py')
    monkeypatch.setattr(sys, 'argv', ['webapp.py', str(CONFIG), 'gone.pth', option, value])
    with pytest.raises(SystemExit) as stopped:
        webapp.main()
    assert stopped.value.code == 2 and f'{option} {value}: give a' in capsys.readouterr().err


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
