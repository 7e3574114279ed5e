"""The review sheet: its numbers, its examples, and what a person does with it in a browser."""

import base64
import hashlib
import json
import re
import socket
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.labelling.review import Example, choose_examples, summarize, write_review_sheet
from mmzeg.labelling.review_thumbnails import draw_class

RED = (220, 40, 30)
BLUE = (30, 60, 220)
THUMBNAIL = re.compile(r'value="([^"]*)"><img alt="([^"]*)" src="data:image/jpeg;base64,([^"]*)"')
HARMFUL = [
    '<img src="http://example.org/x" onerror="window.hit=1">',
    '</script><script>window.hit=1</script>',
    'a "quoted" name & more',
    '" onfocus="window.hit=1" autofocus="',
    'Straße, 道路',
]


def write_settings(out, names, seen=(), **settings):
    out.mkdir(exist_ok=True)
    classes = dict(classes=names, seen=list(seen), ignore_index=255 if len(names) <= 255 else 65535)
    (out / 'classes.json').write_text(json.dumps(classes))
    (out / 'settings.json').write_text(json.dumps(classes | dict(config=dict(model={})) | settings))


def label_image(folder, file, image, labels, names, margins):
    """Write an image (H, W, 3) and its label map as the tool does; return its row."""
    path = folder / 'images' / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)
    ignore_index = 255 if len(names) <= 255 else 65535
    label_path = (folder / 'out/annotations' / file).with_suffix('.png')
    label_path.parent.mkdir(parents=True, exist_ok=True)
    label_path.write_bytes(indexed_png(labels, len(names), ignore_index))
    counts = {names[label]: int((labels == label).sum()) for label in np.unique(labels) if label != ignore_index}
    return dict(
        file=file,
        width=labels.shape[1],
        height=labels.shape[0],
        sha1=hashlib.sha1(path.read_bytes()).hexdigest(),
        pixels=counts,
        ignored=int((labels == ignore_index).sum()),
        margins={name: margins[name] for name in counts},
        mean_score=0.5,
        seconds=0.1,
        error=None,
    )


def error_row(file, error):
    empty = dict(width=None, height=None, sha1=None, pixels={}, ignored=0, margins={}, mean_score=None)
    return dict(file=file, **empty, seconds=0.0, error=error)


def two_halves(left, right, size=(60, 80)):
    """Return a label map (H, W) of two values."""
    labels = np.full(size, left)
    labels[:, size[1] // 2 :] = right
    return labels


@pytest.fixture
def labelled(tmp_path):
    """Thirty images, left half red and of class 0, right half blue and of class 1 or 2; class 3 has no pixel."""
    names = ['road', 'sky', 'sea', 'zebra']
    write_settings(tmp_path / 'out', names, ['road', 'sky'])
    rows = []
    for index in range(30):
        labels = two_halves(0, 1 + index % 2)
        image = np.where((labels == 0)[..., None], RED, BLUE).astype(np.uint8)
        file = f'part {index % 3}/{index:03}.jpg'
        margins = dict(road=index / 100, sky=0.5 + index / 100, sea=0.9 - index / 100)
        rows.append(label_image(tmp_path, file, image, labels, names, margins))
    rows.append(error_row('part 1/bad.jpg', 'truncated or not an image <b>'))
    return tmp_path, rows


def write_sheet(folder, rows):
    write_review_sheet(folder / 'out', rows, str(folder / 'images'))
    return (folder / 'out/review.html').read_text(encoding='utf-8')


def thumbnails(html):
    """Return every thumbnail as (file, class, array (H, W, 3))."""
    return [
        (file, name, np.asarray(Image.open(BytesIO(base64.b64decode(data)))))
        for file, name, data in THUMBNAIL.findall(html)
    ]


def test_summary():
    rows = [
        dict(
            file='b', width=10, height=10, pixels=dict(x=60, y=20), ignored=20, margins=dict(x=0.5, y=0.25), error=None
        ),
        dict(file='a', width=10, height=30, pixels=dict(x=300), ignored=0, margins=dict(x=0.1), error=None),
        error_row('c', 'empty file'),
    ]
    review = summarize(rows, ['y', 'x', 'z'], ['x'])
    assert (review.num_images, review.ignored, review.errors) == (2, 20 / 400, [('c', 'empty file')])
    assert review.margin == pytest.approx((60 * 0.5 + 300 * 0.1 + 20 * 0.25) / 380)
    y, x, z = review.classes
    assert [entry.seen for entry in review.classes] == [False, True, False]
    assert [entry.fraction for entry in review.classes] == [20 / 400, 360 / 400, 0]
    assert (x.num_images, x.margin) == (2, pytest.approx((60 * 0.5 + 300 * 0.1) / 360))
    assert (x.least_certain, x.most_certain) == ([Example('a', 1.0, 0.1)], [Example('b', 0.6, 0.5)])
    # The only example is not both.
    assert (y.least_certain, y.most_certain) == ([], [Example('b', 0.2, 0.25)])
    assert (z.num_images, z.margin, z.least_certain, z.most_certain) == (0, None, [], [])
    empty = summarize(rows[2:], ['x'], [])
    assert (empty.num_images, empty.ignored, empty.margin) == (0, 0, None)


def test_examples_are_the_extremes_of_the_visible():
    rng = np.random.RandomState(0)
    examples = [Example(f'{index:03}', rng.uniform(0.01, 1), rng.randint(0, 20) / 20) for index in range(100)]
    specks = [Example(f'speck {index}', 0.005, margin) for index, margin in enumerate((0.0, 1.0))]
    most_certain, least_certain = choose_examples([*specks, *examples], 6)
    by_margin = sorted(examples, key=lambda example: (example.margin, example.file))
    assert least_certain == by_margin[:6] and most_certain == by_margin[:-7:-1]
    # Whatever order processes wrote the rows in.
    assert choose_examples([*examples[::-1], *specks], 6) == (most_certain, least_certain)
    # Specks fill up, the larger first, and no example is in both lists.
    most_certain, least_certain = choose_examples([*examples[:4], *specks, Example('dot', 0.001, 0.5)], 3)
    assert {example.file for example in most_certain + least_certain} == {
        '000',
        '001',
        '002',
        '003',
        'speck 0',
        'speck 1',
    }
    assert len(most_certain) == len(least_certain) == 3


def test_drawing_of_a_class():
    image = np.random.RandomState(0).randint(0, 256, (100, 150, 3)).astype(np.uint8)
    mask = np.zeros((100, 150), bool)
    mask[20:60, 30:90] = True
    drawing = np.asarray(draw_class(image, mask, np.array([255, 0, 255])))
    assert np.array_equal(drawing[mask], image[mask])
    outline = (drawing == (255, 0, 255)).all(2)
    assert outline.sum() == 2 * (40 + 60) and outline[19, 30:90].all() and outline[20:60, 90].all()
    outside = drawing[~mask & ~outline]
    assert (outside == outside[:, :1]).all() and outside.min() >= 35 and outside.max() <= 150
    # A line that is thinner than a pixel of the thumbnail.
    large = np.zeros((1200, 1600, 3), np.uint8)
    line = np.zeros((1200, 1600), bool)
    line[604, 100:1500] = True
    drawing = np.asarray(draw_class(large, line, np.array([255, 0, 255])))
    assert (
        drawing.shape == (120, 160, 3)
        and (drawing[60, 12:148] == 0).all()
        and (drawing[59, 12:148] == (255, 0, 255)).all()
    )


def test_thumbnails_show_the_class(labelled):
    folder, rows = labelled
    drawn = thumbnails(write_sheet(folder, rows))
    assert [name for _, name, _ in drawn] == [*['road'] * 12, *['sky'] * 12, *['sea'] * 12]
    for _, name, image in drawn:
        assert image.shape == (60, 80, 3)
        left, right = image[:, :30].astype(int), image[:, 50:].astype(int)
        coloured, grey, colour = (left, right, RED) if name == 'road' else (right, left, BLUE)
        assert abs(coloured - colour).max() < 25 and np.ptp(grey, axis=2).max() < 25
    road = [file for file, name, _ in drawn if name == 'road']
    files = [row['file'] for row in rows]
    assert road == files[:6] + files[29:23:-1]


def test_label_maps_of_16_bits(tmp_path):
    names = [f'class {index}' for index in range(300)]
    write_settings(tmp_path / 'out', names)
    labels = two_halves(44, 299)
    labels[:24] = 65535
    image = np.where((labels == 299)[..., None], BLUE, RED).astype(np.uint8)
    row = label_image(tmp_path, 'a.png', image, labels, names, {'class 44': 0.5, 'class 299': 0.25})
    first, second = thumbnails(write_sheet(tmp_path, [row]))
    assert first[1] == 'class 299' and abs(first[2][36:, 50:].astype(int) - BLUE).max() < 25
    assert second[1] == 'class 44' and abs(second[2][36:, :30].astype(int) - RED).max() < 25
    assert np.ptp(second[2][:12, :30].astype(int), axis=2).max() < 25


def test_only_drawn_images_are_read(labelled):
    folder, rows = labelled
    drawn = {file for file, _, _ in thumbnails(write_sheet(folder, rows))}
    assert 0 < len(drawn) < 30
    for row in rows[:-1]:
        if row['file'] not in drawn:
            (folder / 'images' / row['file']).unlink()
            (folder / 'out/annotations' / row['file']).with_suffix('.png').unlink()
    html = write_sheet(folder, rows)
    assert {file for file, _, _ in thumbnails(html)} == drawn and 'cannot be read any more' not in html


def test_images_that_changed_or_vanished(labelled):
    folder, rows = labelled
    drawn = {file for file, _, _ in thumbnails(write_sheet(folder, rows))}
    gone, changed, unlabelled, truncated, resized = (row['file'] for row in rows[:5])
    (folder / 'images' / gone).unlink()
    Image.new('RGB', (80, 60)).save(folder / 'images' / changed)
    label_path = {file: (folder / 'out/annotations' / file).with_suffix('.png') for file in drawn}
    label_path[unlabelled].unlink()
    label_path[truncated].write_bytes(label_path[truncated].read_bytes()[:60])
    Image.new('P', (40, 30)).save(label_path[resized])
    html = write_sheet(folder, rows)
    assert {file for file, _, _ in thumbnails(html)} == drawn - {gone, changed, unlabelled, truncated, resized}
    assert 'Images that cannot be read any more: 5' in html
    for reason in (
        f'{folder}/images/{gone}: no such file',
        'changed since it was labelled',
        f'{label_path[unlabelled]}: no such file',
        f'{label_path[truncated]}: truncated or not an image',
        f'{label_path[resized]}: another size than its image',
    ):
        assert html.count(reason) == 1
    # No image at all: the classes are listed nevertheless.
    for path in (folder / 'images').rglob('*.jpg'):
        path.unlink()
    html = write_sheet(folder, rows)
    assert thumbnails(html) == [] and html.count('No example could be read.') == 3


@pytest.mark.parametrize('num_classes, num_thumbnails, max_bytes', [(1, 12, 5e5), (20, 240, 4e6), (847, 1694, 6e6)])
def test_size(tmp_path, num_classes, num_thumbnails, max_bytes):
    """Noise, which JPEG cannot compress, in every pixel of every thumbnail."""
    rng = np.random.RandomState(0)
    names = [f'class {index}' for index in range(num_classes)]
    write_settings(tmp_path / 'out', names)
    num_maps = 12 if num_classes < 100 else 2
    side = 160 if num_classes < 100 else 100
    image = rng.randint(0, 256, (side, side, 3)).astype(np.uint8)
    rows = []
    for index in range(num_maps):
        columns = np.linspace(0, num_classes, side, endpoint=False).astype(int)
        labels = np.broadcast_to(columns, (side, side))
        row = label_image(tmp_path, f'{index}.jpg', image, labels, names, dict.fromkeys(names, 0.5))
        # Every class is in every image, though with more classes than columns the pixels say less.
        rows.append(row | dict(pixels=dict.fromkeys(names, 300), margins=dict.fromkeys(names, index / 20)))
    html = write_sheet(tmp_path, rows)
    assert html.count('<img ') == num_thumbnails and len(html) < max_bytes
    assert html.count('<section id="class-') == num_classes


def test_file_names_that_are_no_text(tmp_path):
    write_settings(tmp_path / 'out', ['a'])
    html = write_sheet(tmp_path, [error_row('\udcff.jpg', 'empty file')])
    assert '\\udcff.jpg' in html


def test_many_errors(tmp_path):
    write_settings(tmp_path / 'out', ['a'])
    html = write_sheet(tmp_path, [error_row(f'{index}.jpg', 'empty file') for index in range(1500)])
    assert 'Images without a label map: 1,500' in html and 'and 1,300 more' in html and html.count('empty file') == 200


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
