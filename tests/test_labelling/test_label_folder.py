"""A complete run in this process: what it writes, what it resumes, and what it refuses."""

import errno
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from labelling_runs import CONFIG, label_maps, save_images, save_weights, without_seconds
from mmengine import fileio
from mmengine.fileio.backends import BaseStorageBackend, backends, prefix_to_backends
from PIL import Image
from test_uncertain_pixels import remove_regions_by_flood_fill

from mmzeg.labelling import image_reader, label_folder
from mmzeg.labelling.label_folder import summary
from mmzeg.labelling.manifest import read_manifest
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.storage import Storage
from mmzeg.publishing.published_model import read_model_config
from mmzeg.utils.palette import palette

NAMES = ['umbrella, parasol', 'grass', 'sky']


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The file, and the model that has these weights."""
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    return path, save_weights(path)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'images'
    save_images(folder, 7)
    return folder


@pytest.fixture
def run(weights, monkeypatch):
    """Labels a folder with the model that is loaded already; returns the rows."""
    path, inferencer = weights
    monkeypatch.setattr(label_folder, 'ZeroShotInferencer', lambda *arguments: inferencer)

    def run(images, out, weights=path, options=None, **fields):
        cfg = read_model_config(CONFIG, options)
        fields = dict(classes=NAMES, mode='seg', device='cpu') | fields
        return label_folder.label_folder(cfg, str(weights), LabelOptions(str(images), str(out), **fields))

    return run


@pytest.fixture
def no_model(monkeypatch):
    """Fails if a model is built."""

    def build(*arguments):
        raise AssertionError('a model is built')

    def forbid():
        monkeypatch.setattr(label_folder, 'ZeroShotInferencer', build)

    return forbid


def labels_of(out, name):
    return np.asarray(Image.open(Path(out, 'annotations', name)))


def test_a_complete_run(run, weights, images, tmp_path):
    rows = run(images, tmp_path / 'out', mode='full', seen=['grass'], save_scores=True)
    assert read_manifest(tmp_path / 'out') == rows
    files = sorted(path.relative_to(images).as_posix() for path in images.rglob('*.*'))
    assert [row['file'] for row in rows] == files and len(files) == 7
    # Label maps are those of the inferencer, margins those of its semantic map.
    inferencer = weights[1]
    for row in rows:
        label_map = (tmp_path / 'out/annotations' / row['file']).with_suffix('.png')
        result = inferencer(images / row['file'], classes=NAMES, seen=['grass'], mode='full', return_scores=True)
        labels = result['predictions'][0]['label_map']
        highest = np.sort(result['predictions'][0]['scores'], axis=0)
        margins = (highest[-1] - highest[-2]).clip(0, 1)
        written = Image.open(label_map)
        assert written.mode == 'P' and np.array_equal(np.asarray(written), labels)
        assert np.array_equal(np.asarray(written.convert('RGB')), palette(3)[labels])
        scores = np.asarray(Image.open(tmp_path / 'out/scores' / label_map.relative_to(tmp_path / 'out/annotations')))
        assert scores.dtype == np.uint8 and np.abs(scores - 255 * margins).max() <= 0.501
        # The row.
        assert (row['height'], row['width']) == labels.shape and row['error'] is None and row['seconds'] > 0
        assert row['sha1'] == hashlib.sha1((images / row['file']).read_bytes()).hexdigest()
        assert row['pixels'] == {NAMES[label]: int((labels == label).sum()) for label in np.unique(labels)}
        for name, margin in row['margins'].items():
            assert margin == pytest.approx(margins[labels == NAMES.index(name)].mean(), abs=1e-5)
        assert row['mean_score'] == pytest.approx(margins.mean(), abs=1e-5) and row['ignored'] == 0
    # The files around the label maps.
    classes = json.loads((tmp_path / 'out/classes.json').read_text())
    assert classes == dict(classes=NAMES, seen=['grass'], ignore_index=255, images=str(images))
    settings = json.loads((tmp_path / 'out/settings.json').read_text())
    assert settings['weights'] == hashlib.sha256(weights[0].read_bytes()).hexdigest()
    assert (
        settings['mode'] == 'full'
        and settings['gamma'] == inferencer.model.fusion.gamma
        and settings['save_scores'] is True
    )
    assert (tmp_path / 'out/review.html').is_file() and (tmp_path / 'out/train_segformer.py').is_file()
    assert not (tmp_path / 'out/.parts').exists()


def test_uncertain_pixels_and_small_regions_are_ignored(run, images, tmp_path):
    plain = run(images, tmp_path / 'plain', save_scores=True)
    scores = {row['file']: row['mean_score'] for row in plain}
    bound = sorted(scores.values())[3]
    rows = run(images, tmp_path / 'out', ignore_below=bound, min_area=20)
    assert sum(row['ignored'] for row in rows) > 0
    for row in rows:
        name = Path(row['file']).with_suffix('.png')
        margins = np.asarray(Image.open(tmp_path / 'plain/scores' / name)) / 255
        expected = labels_of(tmp_path / 'plain', name).copy()
        # Margins within rounding of the bound may lie on either side.
        labels = labels_of(tmp_path / 'out', name)
        expected[(margins < bound) & (np.abs(margins - bound) > 0.003)] = 255
        near = np.abs(margins - bound) <= 0.003
        if not near.any():
            assert np.array_equal(labels, remove_regions_by_flood_fill(expected, 20, 255))
        assert (labels[margins < bound - 0.003] == 255).all()
        assert np.array_equal(labels, remove_regions_by_flood_fill(labels, 20, 255))
        assert row['ignored'] == (labels == 255).sum() and row['mean_score'] == scores[row['file']]


def test_batches_equal_single_images(run, images, tmp_path):
    """But for rounding, which may differ between batches of two sizes: the batch size is a setting."""
    single = run(images, tmp_path / '1', save_scores=True)
    batched = run(images, tmp_path / '3', save_scores=True, batch_size=3)
    for row, batched_row in zip(single, batched, strict=True):
        name = Path(row['file']).with_suffix('.png')
        margins, batched_margins = (
            np.asarray(Image.open(tmp_path / out / 'scores' / name)).astype(int) for out in '13'
        )
        assert np.abs(margins - batched_margins).max() <= 1
        is_clear = margins > 0
        assert is_clear.any() and row['sha1'] == batched_row['sha1']
        assert np.array_equal(labels_of(tmp_path / '1', name)[is_clear], labels_of(tmp_path / '3', name)[is_clear])


def test_more_classes_than_8_bits(run, images, tmp_path):
    classes = [f'thing {number}' for number in range(300)]
    rows = run(images, tmp_path / 'out', classes=classes, ignore_below=1.0)
    assert all(row['ignored'] == row['width'] * row['height'] for row in rows)
    run(images, tmp_path / 'all', classes=classes)
    name = Path(rows[0]['file']).with_suffix('.png')
    assert (labels_of(tmp_path / 'out', name) == 65535).all()
    labels = labels_of(tmp_path / 'all', name)
    assert labels.max() < 300
    with Image.open(tmp_path / 'all/annotations' / name) as image:
        assert image.mode.startswith('I')
    assert json.loads((tmp_path / 'all/classes.json').read_text())['ignore_index'] == 65535
    # With 256 classes, 255 is a class, and so not the ignored value.
    run(images, tmp_path / '256', classes=classes[:256], ignore_below=1.0)
    assert (labels_of(tmp_path / '256', name) == 65535).all()


def test_bad_images_are_rows(run, images, tmp_path, monkeypatch):
    folder = tmp_path / 'images'
    shutil.copytree(images, folder)
    (folder / 'corrupt.jpg').write_bytes((images / 'seq0/000.jpg').read_bytes()[:200])
    (folder / 'empty.jpg').touch()
    (folder / 'vanishing.jpg').touch()
    changing = folder / 'changing.png'
    shutil.copy(images / 'seq0/002.png', changing)
    read = Storage.read

    def read_meanwhile(storage, name):
        if name == 'vanishing.jpg':
            (folder / name).unlink()
        if name == 'changing.png':
            changing.write_bytes(changing.read_bytes() + b'x')
        return read(storage, name)

    monkeypatch.setattr(Storage, 'read', read_meanwhile)
    rows = run(folder, tmp_path / 'out', batch_size=2)
    assert len(rows) == 11
    errors = {row['file']: row['error'] for row in rows if row['error'] is not None}
    assert sorted(errors) == ['changing.png', 'corrupt.jpg', 'empty.jpg', 'vanishing.jpg']
    assert 'corrupt.jpg: truncated or not an image' in errors['corrupt.jpg']
    assert errors['empty.jpg'] == f'{folder}/empty.jpg: an empty file'
    assert 'vanishing.jpg: no such file; it vanished' in errors['vanishing.jpg']
    assert errors['changing.png'] == f'{folder}/changing.png: cannot be read (it changed meanwhile)'
    assert len(label_maps(tmp_path / 'out')) == 7
    assert '4 of 11 images could not be labelled' in summary(rows, str(tmp_path / 'out'))


def test_repaired_and_new_images_are_labelled_by_the_next_run(run, no_model, images, tmp_path):
    folder = tmp_path / 'images'
    shutil.copytree(images, folder)
    good = (folder / 'seq1/001.png').read_bytes()
    (folder / 'seq1/001.png').write_bytes(good[:99])
    run(folder, tmp_path / 'out')
    before = label_maps(tmp_path / 'out')
    assert len(before) == 6
    (folder / 'seq1/001.png').write_bytes(good)
    shutil.copy(folder / 'seq0/000.jpg', folder / 'new.jpg')
    rows = run(folder, tmp_path / 'out')
    assert [row['error'] for row in rows] == [None] * 8
    after = label_maps(tmp_path / 'out')
    assert len(after) == 8 and after.items() >= before.items()
    assert after['annotations/new.png'] == after['annotations/seq0/000.png']
    # Nothing is left.
    no_model()
    assert run(folder, tmp_path / 'out') == rows


@pytest.mark.parametrize(
    'fields, name, values',
    [
        (dict(classes=[*NAMES, 'gear']), 'classes', ('gear', 'sky')),
        (dict(seen=['sky']), 'seen', ('sky', 'grass')),
        (dict(mode='full'), 'mode', ('"full"', '"seg"')),
        (dict(gamma=0.5), 'gamma', ('0.5', '0.1')),
        (dict(lam=0.25), 'lam', ('0.25', '0.9')),
        (dict(ignore_below=0.125), 'ignore_below', ('0.125', '0.0')),
        (dict(min_area=9), 'min_area', ('9', '0')),
        (dict(save_scores=True), 'save_scores', ('true', 'false')),
        (dict(batch_size=2), 'batch_size', ('2', '1')),
        (dict(options={'model.decode_head.num_queries': 9}), 'config.model.decode_head.num_queries', ('9', '20')),
        (dict(options={'model.scorer.mask_dilation': 3}), 'scorer.mask_dilation', ('3', '1')),
    ],
)
def test_other_settings_are_refused_before_the_model_is_built(run, no_model, images, tmp_path, fields, name, values):
    folder = tmp_path / 'images'
    (folder / 'seq0').mkdir(parents=True)
    shutil.copy(images / 'seq0/000.jpg', folder / 'seq0/000.jpg')
    run(folder, tmp_path / 'out')
    shutil.copy(images / 'seq0/002.png', folder / 'seq0/002.png')
    no_model()
    with pytest.raises(ValueError) as error:
        run(folder, tmp_path / 'out', **fields)
    message = str(error.value)
    assert f'out: {name} is ' in message and all(value in message for value in values)
    assert len(label_maps(tmp_path / 'out')) == 1


def test_other_weights_and_other_images_are_refused(run, no_model, weights, images, tmp_path):
    run(images, tmp_path / 'out')
    no_model()
    shutil.copytree(images, tmp_path / 'images')
    with pytest.raises(ValueError, match=r'out: images is ".*images", but was'):
        run(tmp_path / 'images', tmp_path / 'out')
    other = tmp_path / 'other.pth'
    other.write_bytes(weights[0].read_bytes() + b'0')
    with pytest.raises(ValueError, match=r'out: weights is "[0-9a-f]{64}", but was "[0-9a-f]{64}"'):
        run(images, tmp_path / 'out', weights=other)
    with pytest.raises(FileNotFoundError, match='gone.pth: no such checkpoint'):
        run(images, tmp_path / 'out', weights='gone.pth')
    (tmp_path / 'out/settings.json').write_text('{"classes"')
    with pytest.raises(ValueError, match='settings.json: damaged'):
        run(images, tmp_path / 'out')


def test_folders_that_are_refused(run, no_model, images, tmp_path):
    no_model()
    with pytest.raises(ValueError, match='it is in the folder of images'):
        run(images, images / 'out')
    assert not (images / 'out').exists()
    # Label maps of another program are not replaced.
    (tmp_path / 'out/annotations').mkdir(parents=True)
    (tmp_path / 'out/annotations/a.png').touch()
    with pytest.raises(ValueError, match=r'annotations: label maps that tools/label.py did not write'):
        run(images, tmp_path / 'out')
    with pytest.raises(ValueError, match="'sky' is listed twice"):
        run(images, tmp_path / 'other', classes=['sky', 'sky'])
    with pytest.raises(ValueError, match='the vocabulary is empty'):
        run(images, tmp_path / 'other', classes=[])
    assert not (tmp_path / 'other').exists()


def test_a_damaged_manifest_is_rebuilt(run, images, tmp_path, capsys):
    rows = run(images, tmp_path / 'out')
    expected = label_maps(tmp_path / 'out')
    path = tmp_path / 'out/manifest.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join([*lines[:2], lines[2][:40] + b'\n', *lines[3:-1], lines[-1][:-30]]))
    (tmp_path / 'out/annotations/seq0/000.png').unlink()
    # What a killed process leaves is removed; what others wrote is not.
    partial = [f'{name}.{"ab12" * 8}.part' for name in ('annotations/seq0/000.png', 'review.html', 'splits/val.txt')]
    foreign = ['notes.part', f'notes/000.png.{"ab12" * 8}.part']
    for name in partial + foreign:
        (tmp_path / 'out' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'out' / name).touch()
    capsys.readouterr()
    repaired = run(images, tmp_path / 'out')
    assert '2 damaged lines of the manifest are left out' in capsys.readouterr().out
    assert without_seconds(repaired) == without_seconds(rows) and label_maps(tmp_path / 'out') == expected
    assert [name for name in partial + foreign if (tmp_path / 'out' / name).exists()] == foreign


@pytest.mark.parametrize('name', ['annotations/seq1/003.png', '.parts/0.jsonl'])
def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(run, images, tmp_path, monkeypatch, name):
    expected = run(images, tmp_path / 'expected')
    write_bytes = Path.write_bytes

    def full_disk(path, content):
        if name in str(path):
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, 'No space left on device')
        return write_bytes(path, content)

    def full_append(self, row):
        if row['file'] == 'seq1/003.jpg' and name.startswith('.parts'):
            raise OSError(errno.ENOSPC, 'No space left on device', name)
        return append(self, row)

    append = label_folder.ManifestPart.append
    monkeypatch.setattr(Path, 'write_bytes', full_disk)
    monkeypatch.setattr(label_folder.ManifestPart, 'append', full_append)
    with pytest.raises(OSError, match=f'No space left on device.*{name}'):
        run(images, tmp_path / 'out')
    complete = label_maps(tmp_path / 'expected')
    written = label_maps(tmp_path / 'out')
    assert written.items() <= complete.items() and not list((tmp_path / 'out').rglob('*.png.*'))
    # There is space again.
    monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    monkeypatch.setattr(label_folder.ManifestPart, 'append', append)
    assert without_seconds(run(images, tmp_path / 'out')) == without_seconds(expected)
    assert label_maps(tmp_path / 'out') == complete


class Bucket(BaseStorageBackend):
    """A store in memory, as s3 is: objects with slashes in their names, and nothing else."""

    objects = {}

    def get(self, filepath):
        if filepath not in self.objects:
            raise RuntimeError(f'NoSuchKey {filepath}')
        return self.objects[filepath]

    def get_text(self, filepath, encoding='utf-8'):
        return self.get(filepath).decode(encoding)

    def put(self, obj, filepath):
        self.objects[filepath] = bytes(obj)

    def isfile(self, filepath):
        return filepath in self.objects

    def isdir(self, filepath):
        return any(name.startswith(f'{filepath}/') for name in self.objects)

    def remove(self, filepath):
        del self.objects[filepath]

    def list_dir_or_file(self, dir_path, list_dir=True, list_file=True, suffix=None, recursive=False):
        assert recursive and not list_dir
        yield from [name[len(dir_path) + 1 :] for name in self.objects if name.startswith(f'{dir_path}/')]


@pytest.fixture
def bucket(monkeypatch):
    """The objects of a store with the prefix bucket://."""
    monkeypatch.setattr(Bucket, 'objects', {})
    fileio.register_backend('bucket', Bucket, prefixes='bucket')
    yield Bucket.objects
    del backends['bucket'], prefix_to_backends['bucket']


def test_images_and_labels_in_a_store(run, no_model, images, tmp_path, bucket, monkeypatch, capsys):
    rows = run(images, tmp_path / 'local')
    for path in images.rglob('*.*'):
        bucket[f'bucket://data/images/{path.relative_to(images).as_posix()}'] = path.read_bytes()
    with pytest.raises(ValueError, match="MMEngine has no file backend for 'pail'"):
        run('pail://data/images', tmp_path / 'out')
    with pytest.raises(ValueError, match='it is in the folder of images'):
        run('bucket://data/images', 'bucket://data/images/out')
    monkeypatch.setattr('mmzeg.labelling.manifest.ROWS_PER_OBJECT', 3)
    # An interrupted run: the store fails.
    put = Bucket.put

    def failing_put(self, obj, filepath):
        if filepath.endswith('annotations/seq1/005.png'):
            raise RuntimeError('the connection is lost')
        put(self, obj, filepath)

    monkeypatch.setattr(Bucket, 'put', failing_put)
    with pytest.raises(OSError, match=r'005.png: cannot be written \(the connection is lost\)'):
        run('bucket://data/images', 'bucket://data/out')
    monkeypatch.setattr(Bucket, 'put', put)
    capsys.readouterr()
    stored = run('bucket://data/images/', 'bucket://data/out')
    output = capsys.readouterr().out
    assert 'stores have no locks' in output and 'of 7 images are labelled already' in output
    assert 'without review.html' in output
    assert without_seconds(stored) == without_seconds(rows) == without_seconds(read_manifest('bucket://data/out'))
    for name, content in label_maps(tmp_path / 'local').items():
        assert bucket[f'bucket://data/out/{name}'] == content
    assert not [name for name in bucket if '.parts' in name]


def test_the_reader_stays_a_bounded_number_ahead(weights, images, monkeypatch):
    cfg = read_model_config(CONFIG)
    num_reads = []
    read = Storage.read
    monkeypatch.setattr(Storage, 'read', lambda storage, name: num_reads.append(name) or read(storage, name))
    names = [('seq0/000.jpg', False)] * 40
    reader = image_reader.ImageReader(Storage(images), cfg, lookahead=3)
    for index, image in enumerate(reader.read(names)):
        assert image.error is None and len(num_reads) <= index + 4
    assert len(num_reads) == 40
