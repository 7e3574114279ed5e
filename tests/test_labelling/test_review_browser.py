"""What a person does with the review sheet in a browser."""

import socket

import numpy as np
import pytest
from labelled_folders import HARMFUL, error_row, label_image, thumbnails, two_halves, write_settings, write_sheet


@pytest.fixture
def open_sheet(browser):
    """Opens a sheet; it must request nothing, and no script may fail."""
    context = browser.new_context(viewport=dict(width=1280, height=900), accept_downloads=True)
    requests = []
    errors = []

    def open_sheet(path):
        tab = context.new_page()
        tab.set_default_timeout(20000)
        tab.on('request', lambda request: requests.append(request.url))
        tab.on('pageerror', lambda error: errors.append(str(error)))
        tab.on('console', lambda message: errors.append(message.text))
        tab.goto(path.as_uri())
        return tab

    yield open_sheet
    context.close()
    assert [url for url in requests if not url.startswith(('file:', 'data:', 'blob:'))] == [] and errors == []


def marked(tab):
    """Return the files of all thumbnails that are marked, one entry a thumbnail."""
    return tab.locator('.examples input:checked').evaluate_all('boxes => boxes.map(box => box.value)')


def exported(tab, tmp_path):
    with tab.expect_download() as download:
        tab.click('#export')
    assert download.value.suggested_filename == 'marked_images.txt'
    download.value.save_as(tmp_path / 'marked.txt')
    return (tmp_path / 'marked.txt').read_bytes().decode()


def test_marks_survive_and_are_exported(labelled, open_sheet, tmp_path):
    folder, rows = labelled
    html = write_sheet(folder, rows)
    tab = open_sheet(folder / 'out/review.html')
    assert tab.inner_text('#count') == '0 images marked' and tab.is_disabled('#export')
    # Both images are examples of road and of another class: a click marks every example of an image.
    first, second = 'part 0/027.jpg', 'part 1/001.jpg'
    files = [file for file, _, _ in thumbnails(html)]
    assert files.count(first) == files.count(second) == 2
    tab.click(f'#class-0 label[title="{first}"]')
    assert marked(tab) == [first, first] and tab.inner_text('#count') == '1 image marked'
    # From the keyboard.
    tab.focus(f'#class-2 input[value="{second}"]')
    tab.keyboard.press('Space')
    assert sorted(marked(tab)) == [first, first, second, second]
    tab.reload()
    assert sorted(marked(tab)) == [first, first, second, second] and tab.inner_text('#count') == '2 images marked'
    assert exported(tab, tmp_path) == f'{first}\n{second}\n'
    # A second tab, and the list of marks, which unmarks an image.
    other = open_sheet(folder / 'out/review.html')
    assert len(marked(other)) == 4
    other.click('#marked summary')
    other.uncheck(f'#marked input[value="{first}"]')
    assert marked(other) == [second, second]
    tab.wait_for_function("document.querySelectorAll('.examples input:checked').length == 2")
    assert exported(tab, tmp_path) == f'{second}\n'
    # The sheet of other settings has marks of its own; the same settings have them again.
    write_settings(folder / 'out', ['road', 'sky', 'sea', 'zebra'], ['road', 'sky'], gamma=0.2)
    write_sheet(folder, rows)
    tab.reload()
    assert marked(tab) == []
    (folder / 'out/review.html').write_text(html, encoding='utf-8')
    tab.reload()
    assert marked(tab) == [second, second]
    # An image that is an example no more is still marked.
    write_settings(folder / 'out', ['road', 'sky', 'sea', 'zebra'], ['road', 'sky'])
    write_sheet(folder, [row for row in rows if row['file'] != second])
    tab.reload()
    assert marked(tab) == [] and exported(tab, tmp_path) == f'{second}\n'
    tab.on('dialog', lambda dialog: dialog.accept())
    tab.click('#marked summary')
    tab.click('#clear')
    assert tab.inner_text('#count') == '0 images marked'
    tab.reload()
    assert tab.inner_text('#count') == '0 images marked'


def test_browsers_that_keep_nothing(labelled, open_sheet, tmp_path):
    folder, rows = labelled
    write_sheet(folder, rows)
    tab = open_sheet(folder / 'out/review.html')
    tab.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') } }")
    for file in ('part 0/027.jpg', 'part 1/001.jpg'):
        tab.click(f'#class-0 label[title="{file}"]')
    assert 'export the list before you leave' in tab.inner_text('#warning')
    assert exported(tab, tmp_path) == 'part 0/027.jpg\npart 1/001.jpg\n'


def test_contents_of_the_sheet(labelled, open_sheet):
    folder, rows = labelled
    write_settings(folder / 'out', ['road', 'sky', 'sea', 'zebra'], ['road', 'sky'], ignore_below=0.125)
    write_sheet(folder, rows)
    tab = open_sheet(folder / 'out/review.html')
    numbers = ' '.join(tab.inner_text('.numbers').split())
    # Means over the pixels: road 0.145, sky 0.64, sea 0.75.
    assert numbers == (
        'images labelled 30 images without a label map 1 classes with pixels 3 of 4 pixels ignored 0.0 % '
        'mean margin 0.42'
    )
    assert 'zebra unseen' in tab.inner_text('#absent') and tab.locator('#classes > section').count() == 3
    assert tab.locator('nav tr').nth(1).inner_text().split() == ['road', 'seen', '50.0', '%', '30', '0.14']
    tab.click('text=Images without a label map:')
    assert 'truncated or not an image <b>' in tab.inner_text('.errors')
    tab.click('text=Settings of the labelling')
    assert '0.125' in tab.inner_text('header')

    def order():
        names = tab.locator('#classes h2').all_text_contents()
        assert tab.locator('nav a').all_text_contents() == names
        return names

    assert order() == ['road', 'sky', 'sea']
    tab.select_option('#order', 'share')
    assert order() == ['road', 'sky', 'sea']
    tab.select_option('#order', 'index')
    assert order() == ['road', 'sky', 'sea']


def test_names_are_text(tmp_path, open_sheet):
    write_settings(tmp_path / 'out', HARMFUL, HARMFUL[:1], mode=HARMFUL[0])
    image = np.zeros((60, 80, 3), np.uint8)
    margins = dict.fromkeys(HARMFUL, 0.5)
    file = '<img src=x onerror=hit=1> "&\'é.jpg'
    rows = [
        label_image(tmp_path, file, image, two_halves(0, 1), HARMFUL, margins),
        label_image(tmp_path, 'b.jpg', image, two_halves(2, 3), HARMFUL, margins),
        error_row(HARMFUL[0], HARMFUL[1]),
    ]
    write_sheet(tmp_path, rows)
    tab = open_sheet(tmp_path / 'out/review.html')
    assert tab.locator('#classes h2').all_text_contents() == HARMFUL[:4] and HARMFUL[4] in tab.inner_text('#absent')
    assert tab.locator('#class-1 .file').text_content() == file
    tab.click('#class-1 label')
    assert marked(tab) == [file, file]
    tab.click('#marked summary')
    assert tab.locator('#marked li').inner_text().strip() == file
    tab.keyboard.press('Tab')
    assert tab.evaluate('window.hit') is None


def test_no_other_script_runs_and_nothing_is_sent(labelled, browser):
    folder, rows = labelled
    write_sheet(folder, rows)
    tab = browser.new_page()
    tab.goto((folder / 'out/review.html').as_uri())
    with socket.create_server(('127.0.0.1', 0)) as server:
        tab.evaluate(
            """address => {
            document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}));
            document.body.append(Object.assign(document.createElement('img'), {src: address}));
            fetch(address).catch(() => null);
            }""",
            f'http://127.0.0.1:{server.getsockname()[1]}/',
        )
        server.settimeout(1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert tab.evaluate('window.hit') is None
    tab.close()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
def test_layout(labelled, browser, scheme, width):
    folder, rows = labelled
    write_sheet(folder, rows)
    tab = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
    tab.goto((folder / 'out/review.html').as_uri())
    assert tab.evaluate('document.documentElement.scrollWidth') <= width
    text, page = tab.evaluate(
        """['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"""
    )
    assert (sum(text) > sum(page)) == (scheme == 'dark') and abs(sum(text) - sum(page)) > 500
    # The bar with the marks stays in view, and a link leads to the examples below it.
    tab.locator('nav a').last.click()
    tab.wait_for_function("document.querySelector('#toolbar').getBoundingClientRect().top == 0")
    heading = tab.locator('section:target h2').bounding_box()
    toolbar = tab.locator('#toolbar').bounding_box()
    assert toolbar['y'] + toolbar['height'] <= heading['y'] < 800
    tab.close()
