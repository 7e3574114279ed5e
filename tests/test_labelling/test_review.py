"""The review sheet: its numbers and its examples."""

import numpy as np
import pytest
from labelled_folders import BLUE, RED, error_row, label_image, thumbnails, two_halves, write_settings, write_sheet
from PIL import Image

from mmzeg.labelling.review import Example, choose_examples, summarize
from mmzeg.labelling.review_thumbnails import draw_class


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
