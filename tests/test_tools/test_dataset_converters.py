"""Dataset converters on miniatures in the datasets' real form."""

import json
import pickle
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from harmful import Harmful
from PIL import Image
from python_runs import run_python
from scipy.io import savemat

ROOT = Path(__file__).parents[2]
SPLIT = json.loads(pkgutil.get_data('mmzeg', 'datasets/splits/ade20k_full_572_275.json'))
NAMES = [*SPLIT['seen'], *SPLIT['unseen']]


def run(tool, *arguments):
    command = [str(ROOT / f'tools/dataset_converters/{tool}.py'), *map(str, arguments)]
    return run_python(command)


def write_ade20k(root, labels, name='ADE_train_00000001', folder='training/urban/street'):
    """Add an image to the 2021 release: image, label map whose red and green encode the class, object parts, index."""
    image_dir = root / 'images/ADE' / folder
    image_dir.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', labels.shape[::-1], (90, 80, 70)).save(image_dir / f'{name}.jpg')
    instances = np.zeros_like(labels)
    code = np.stack([labels // 256 * 10, labels % 256, instances], -1).astype(np.uint8)
    Image.fromarray(code).save(image_dir / f'{name}_seg.png')
    Image.fromarray(code).save(image_dir / f'{name}_parts_1.png')
    path = root / 'index_ade20k.pkl'
    index = pickle.loads(path.read_bytes()) if path.exists() else dict(filename=[], folder=[], objectPresence=[])
    index['filename'].append(f'{name}.jpg')
    index['folder'].append(f'ADE20K_2021_17_01/images/ADE/{folder}')
    index['objectPresence'] = np.zeros((3148, len(index['filename'])))
    path.write_bytes(pickle.dumps(index))
    return image_dir / f'{name}.jpg'


def test_ade20k_full(tmp_path):
    source, out = tmp_path / 'ADE20K_2021_17_01', tmp_path / 'out'
    # Every class once, one that is not among the 847, and no class.
    ids = [SPLIT['ade_full_id'][name] for name in NAMES]
    labels = np.resize([*ids, next(value for value in range(1, 3000) if value not in ids), 0], (30, 40))
    write_ade20k(source, labels)
    large_labels = np.repeat(np.repeat(labels, 40, 0), 40, 1)
    large_image = write_ade20k(source, large_labels, 'ADE_val_00000002', 'validation/home/kitchen')
    result = run('ade20k_full', source, out)
    assert result.returncode == 0 and '2 images' in result.stdout, result.stderr
    labels = np.asarray(Image.open(out / 'annotations/training/ADE_train_00000001.png'))
    assert np.array_equal(labels, np.resize([*range(847), 65535, 65535], (30, 40)))
    reduced = Image.open(out / 'images/validation/ADE_val_00000002.jpg')
    assert reduced.size == (683, 512)
    labels = np.asarray(Image.open(out / 'annotations/validation/ADE_val_00000002.png'))
    assert labels.shape == (512, 683) and set(np.unique(labels)) == set(range(847)) | {65535}

    # A resumed run writes missing files and does not touch existing ones.
    existing = out / 'annotations/training/ADE_train_00000001.png'
    existing.write_bytes(b'mine')
    (out / 'annotations/validation/ADE_val_00000002.png').unlink()
    assert run('ade20k_full', source, out).returncode == 0
    assert existing.read_bytes() == b'mine' and (out / 'annotations/validation/ADE_val_00000002.png').exists()
    assert run('ade20k_full', source, out, '--overwrite').returncode == 0
    assert existing.read_bytes() != b'mine' and not list(out.rglob('*.part'))

    large_image.write_bytes(large_image.read_bytes()[:500])
    result = run('ade20k_full', source, tmp_path / 'other')
    assert result.returncode == 2 and 'ADE_val_00000002.jpg: truncated or not an image' in result.stderr
    large_image.unlink()
    result = run('ade20k_full', source, out)
    assert result.returncode == 2 and 'ADE_val_00000002.jpg: no such file, but index_ade20k.pkl' in result.stderr


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'index_ade20k.pkl: no such file'),
        (pickle.dumps(dict(filename=[], scene=[])), "no 'folder' in this index"),
        (pickle.dumps(Harmful()), 'not a pickle of plain data .* nothing of it was run'),
        (pickle.dumps(dict(filename=['a'] * 99))[:-40], 'truncated or corrupted'),
    ],
)
def test_bad_ade20k_index(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / 'index_ade20k.pkl').write_bytes(content)
    result = run('ade20k_full', tmp_path, tmp_path / 'out')
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)
    assert not (tmp_path / 'harmed').exists()


def test_pascal_context_459(tmp_path):
    source, out = tmp_path / 'trainval', tmp_path / 'out'
    source.mkdir()
    labels = np.resize(np.arange(460), (23, 40)).astype(np.uint16)
    savemat(source / '2008_000002.mat', dict(LabelMap=labels), do_compression=True)
    assert run('pascal_context_459', source, out).returncode == 0
    class_indices = np.asarray(Image.open(out / '2008_000002.png'))
    assert np.array_equal(class_indices, np.where(labels == 0, 65535, labels.astype(int) - 1))

    savemat(source / '2008_000003.mat', dict(LabelMap=labels + 1))
    result = run('pascal_context_459', source, out)
    assert result.returncode == 2 and '2008_000003.mat: value 460, but there are 459 classes' in result.stderr
    (source / '2008_000003.mat').write_bytes((source / '2008_000002.mat').read_bytes()[:150])
    result = run('pascal_context_459', source, out)
    assert result.returncode == 2 and '2008_000003.mat: truncated or not a .mat file' in result.stderr
    result = run('pascal_context_459', tmp_path / 'nothing', out)
    assert result.returncode == 2 and 'no .mat file here' in result.stderr
