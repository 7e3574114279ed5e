"""Datasets, the inferencer, the demo page and the ONNX runner read the same pixels from a file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_session import Session
from mmzeg.datasets.transforms.load_image import register_image_loader
from mmzeg.deployment.onnx_export import copy_runner

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
HEIGHT, WIDTH = 48, 72


def write_images(folder):
    """Write images that decoders read differently; returns the expected pixels of the lossless ones."""
    rng = np.random.default_rng(0)
    colours = np.kron(rng.integers(0, 256, (6, 9, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    grey16 = (np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)).astype(np.uint16)
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, ::2] = 0
    on_white = np.where(alpha[..., None] == 255, colours, 255)
    image = Image.fromarray(colours)

    # 16 bits, divided by 257.
    for name in ('grey16.png', 'grey16.tif'):
        Image.fromarray(grey16).save(folder / name)
    # Transparency, over colours that nobody sees.
    Image.fromarray(np.dstack([colours, alpha])).save(folder / 'transparent.png')
    # EXIF orientation 6: stored on its side.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(colours)).save(folder / 'rotated.png', exif=exif)
    image.save(folder / 'rotated.jpg', exif=exif, quality=95)
    image.save(folder / 'photo.heic', quality=90)
    image.save(folder / 'photo.avif', quality=90)
    image.convert('P').save(folder / 'animation.gif')
    image.convert('CMYK').save(folder / 'print.jpg', quality=95)
    grey8 = np.repeat((grey16 // 257).astype(np.uint8)[..., None], 3, -1)
    return {
        'grey16.png': grey8,
        'grey16.tif': grey8,
        'transparent.png': on_white,
        'rotated.png': colours,
    }


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    """Return, for every reader, the pixels (H, W, 3) RGB of every file; and those expected of the lossless ones."""
    folder = tmp_path_factory.mktemp('images')
    expected = write_images(folder)
    paths = sorted(folder.iterdir())

    # The inferencer, whose registries the dataset needs.
    inferencer = ZeroShotInferencer(CONFIG, device='cpu')
    stream = inferencer.stream([str(path) for path in paths], mode='seg')
    from_inferencer = {Path(item['input']).name: item['image'] for item in stream}

    # The dataset, with the published decoder.
    register_image_loader()
    loading = [dict(type='LoadImageFromFile', imdecode_backend='pillow'), dict(type='PackSegInputs')]
    suffixes = sorted({path.suffix for path in paths})
    dataset = DATASETS.build(
        dict(
            type='mmzeg.FolderDataset',
            data_prefix=dict(img_path=str(folder)),
            labels=['sky'],
            img_suffix=suffixes,
            pipeline=loading,
        )
    )
    samples = [dataset[index] for index in range(len(dataset))]
    from_dataset = {
        Path(sample['data_samples'].img_path).name: sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
        for sample in samples
    }

    # The page, which keeps what the network gets.
    from_page = {}
    for path in paths:
        encoded = Session.start(inferencer, str(path)).encoded
        height, width = encoded.sizes.original
        from_page[path.name] = encoded.image.numpy().transpose(1, 2, 0)[:height, :width].round().astype(np.uint8)

    # The runner, in a process without PyTorch and mmzeg.
    copy_runner(folder)
    code = (
        'import sys\n'
        "sys.modules.update(dict.fromkeys(['torch', 'mmzeg', 'mmcv', 'mmengine', 'cv2']))\n"
        'import numpy\n'
        'from mmzeg_onnx.deployment import onnx_runner\n'
        'numpy.savez("pixels.npz", **{name: onnx_runner.read_image(name) for name in sys.argv[1:]})\n'
    )
    command = [sys.executable, '-c', code, *(path.name for path in paths)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with np.load(folder / 'pixels.npz') as arrays:
        from_runner = dict(arrays)
    readers = dict(dataset=from_dataset, inferencer=from_inferencer, page=from_page, runner=from_runner)
    return readers, expected


NAMES = ['grey16.png', 'grey16.tif', 'transparent.png', 'rotated.png', 'rotated.jpg', 'photo.heic', 'photo.avif']
NAMES += ['animation.gif', 'print.jpg']


@pytest.mark.parametrize('name', NAMES)
def test_all_readers_give_the_same_pixels(pixels, name):
    readers, expected = pixels
    reference = expected.get(name, readers['inferencer'][name])
    assert reference.std() > 10
    for reader, images in readers.items():
        assert np.array_equal(images[name], reference), reader


def test_rotated_photos_are_upright(pixels):
    for images in pixels[0].values():
        assert images['rotated.jpg'].shape == (WIDTH, HEIGHT, 3)
