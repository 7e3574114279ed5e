"""The procedural dataset: the same scenes everywhere, as a dataset and on disk."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image
from python_runs import run_python

from mmzeg.datasets import WorldDataset
from mmzeg.datasets.world import CLASSES, OBJECTS, SEEN, SYNONYMS, TEXTURES, UNSEEN, Scene, draw_scene, glyphs

ROOT = Path(__file__).parents[2]
# SHA-256 of the first six test scenes: the same with both stacks and on every platform.
TEST_SCENES_SHA256 = '073dbc3e9d658fadb35fcafe7c4de4b88589637fed2086b108fd0842917cce7a'
DIGEST_SCRIPT = """
import hashlib
from mmzeg.datasets.world import Scene, draw_scene
digest = hashlib.sha256()
for index in range(6):
    image, label_map = draw_scene(Scene('test', index))
    digest.update(image.tobytes() + label_map.tobytes())
print(digest.hexdigest())
"""


def test_the_same_bytes_in_every_process():
    results = [subprocess.run([sys.executable, '-c', DIGEST_SCRIPT], capture_output=True, text=True) for _ in range(2)]
    digests = [result.stdout.split()[-1] for result in results]
    assert digests == [TEST_SCENES_SHA256] * 2, results[0].stderr


def test_classes():
    assert len(OBJECTS) == 36 and len(TEXTURES) == 6 and len(UNSEEN) == 8 and set(UNSEEN) & set(TEXTURES) == {'brick'}
    assert set(SEEN) | set(UNSEEN) == set(CLASSES) and len(SEEN) == 34
    assert set(SYNONYMS) <= set(CLASSES) and not set(SYNONYMS.values()) & set(CLASSES)
    silhouettes = {
        glyphs.fill([contour * 30 + 16 for contour in glyphs.outline(code)], 32, 32).tobytes()
        for code in OBJECTS.values()
    }
    assert len(silhouettes) == 36


def test_every_class_is_drawn_and_unseen_ones_by_their_share():
    def scenes_per_class(split, unseen_frequency):
        counts = np.zeros(len(CLASSES), int)
        for index in range(300):
            counts[np.unique(draw_scene(Scene(split, index, 64, unseen_frequency))[1])] += 1
        return counts

    unseen = np.array([name in UNSEEN for name in CLASSES])
    full_share = scenes_per_class('test', 1.0)
    low_share = scenes_per_class('train', 0.2)
    no_share = scenes_per_class('train', 0.0)
    assert full_share.min() > 5 and no_share[unseen].sum() == 0 and no_share[~unseen].min() > 5
    assert 0.1 < low_share[unseen].sum() / full_share[unseen].sum() < 0.35


def test_splits_seeds_and_indices_differ():
    scenes = [Scene('train', 0), Scene('val', 0), Scene('test', 0), Scene('train', 1), Scene('train', 0, seed=1)]
    assert len({draw_scene(scene)[0].tobytes() for scene in scenes}) == 5


def test_the_rasteriser_counts_samples():
    """A triangle, and a square with a triangular hole, against a direct test of every sample."""
    triangle = np.array([(1.2, 0.7), (8.9, 3.1), (3.3, 9.6)])
    square = np.array([(0.0, 0.0), (10, 0), (10, 10), (0, 10)])
    counts = glyphs.fill([triangle], 10, 10)
    points = (np.arange(40) + 0.5) / 4
    x, y = np.meshgrid(points, points)
    ends = np.roll(triangle, -1, 0)
    sides = [(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0 for a, b in zip(triangle, ends, strict=True)]
    assert np.array_equal(counts, np.logical_and.reduce(sides).reshape(10, 4, 10, 4).sum((1, 3)))
    assert np.array_equal(glyphs.fill([square, triangle[::-1]], 10, 10), 16 - counts)
    assert np.array_equal(glyphs.fill([square - 5], 10, 10)[:5, :5], np.full((5, 5), 16))
    assert not glyphs.fill([square + 20], 10, 10).any()


def test_other_font_is_refused(monkeypatch):
    monkeypatch.setattr(glyphs, 'FONT_SHA256', 'f' * 64)
    glyphs._font.cache_clear()
    glyphs.outline.cache_clear()
    with pytest.raises(ValueError, match='not DejaVu Sans 2.37 .* pip install'):
        glyphs.outline(0x2602)


def test_dataset_ignores_unseen_classes_in_training():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    pipeline = [dict(type='mmzeg.DrawScene'), dict(type='RandomFlip', prob=1.0), dict(type='PackSegInputs')]
    dataset = WorldDataset('train', 3, size=64, metainfo=dict(classes=SEEN), pipeline=pipeline)
    assert len(dataset) == 3 and dataset.metainfo['classes'] == SEEN and len(dataset.metainfo['palette']) == len(SEEN)
    for index in range(3):
        sample = dataset[index]
        image, label_map = draw_scene(Scene('train', index, 64))
        assert np.array_equal(sample['inputs'].numpy(), image[:, ::-1, ::-1].transpose(2, 0, 1))
        loaded = sample['data_samples'].gt_sem_seg.data[0].numpy()[:, ::-1]
        for value in np.unique(label_map):
            name = CLASSES[value]
            expected = SEEN.index(name) if name in SEEN else 255
            assert (loaded[label_map == value] == expected).all()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(split='dev', length=1), "split 'dev' is unknown"),
        (dict(split='val', length=0), 'length must be 1'),
        (dict(split='val', length=1, size=8), 'size 32 or more'),
        (dict(split='val', length=1, seed=-1), 'seed must lie in'),
        (dict(split='val', length=1, unseen_frequency=2), 'unseen_frequency must lie'),
    ],
)
def test_bad_fields(arguments, message):
    with pytest.raises(ValueError, match=message):
        WorldDataset(**arguments)


def test_writing_to_disk_is_resumed(tmp_path):
    def write(*arguments):
        return run_python([ROOT / 'tools/dataset_converters/world.py', tmp_path / 'w', *arguments])

    assert write('--val', '1', '--size', '64').returncode == 0
    first = tmp_path / 'w/images/val/000000.png'
    modified = first.stat().st_mtime_ns
    assert write('--val', '2', '--size', '64').returncode == 0
    assert first.stat().st_mtime_ns == modified
    for index in range(2):
        image, label_map = draw_scene(Scene('val', index, 64))
        assert np.array_equal(np.asarray(Image.open(tmp_path / f'w/images/val/{index:06d}.png')), image)
        assert np.array_equal(np.asarray(Image.open(tmp_path / f'w/annotations/val/{index:06d}.png')), label_map)
    assert json.loads((tmp_path / 'w/world.json').read_text())['unseen'] == list(UNSEEN)
    result = write('--val', '1', '--size', '96')
    assert result.returncode == 2 and 'another world is in this folder' in result.stderr.splitlines()[-1]
