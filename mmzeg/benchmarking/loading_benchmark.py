"""Measure the loading of training images: time of every transform, and images per second of data loader workers.

``tools/analysis_tools/benchmark_loading.py`` is its command line.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from PIL import Image
from prettytable import PrettyTable

from mmzeg.benchmarking.repeats import prepare_benchmark
from mmzeg.datasets.transforms.load_image import register_image_loader
from mmzeg.utils.config_files import read_config

# Octaves of the random images: a grid of 2 x 2 colours, and grids that are twice as fine each, up to single pixels.
NUM_OCTAVES = 9
# How much of the contrast of an octave the next finer one has. With this, a JPEG has about the 160 KiB of COCO's.
ROUGHNESS = 0.75
NUM_REGIONS = 12


@dataclass(frozen=True)
class LoadingOptions:
    """What is measured.

    Args:
        config (str): A config whose ``train_dataloader`` is measured.
        num_images (int): Images per measurement.
        workers (Sequence[int]): Numbers of worker processes.
        batch_size (int): Images per batch.
        seed (int): Of the random transforms.
        cfg_options (dict, optional): Changed fields of the config.
    """

    config: str
    num_images: int = 120
    workers: Sequence[int] = (1, 2)
    batch_size: int = 16
    seed: int = 0
    cfg_options: dict | None = None


def run_loading_benchmark(options: LoadingOptions) -> tuple[list[dict], list[dict]]:
    """Measure the transforms and the workers.

    Returns:
        tuple: A row per transform (``transform``, ``ms``, ``percent``), and a row per number of workers (``workers``,
        ``images_per_second``).

    Raises:
        ValueError: Less than one image, or less than a batch.
    """
    if options.num_images < 1:
        raise ValueError(f'--images must be 1 or more, got {options.num_images}')
    prepare_benchmark(1, 'cpu')
    register_image_loader()
    cfg = read_config(options.config, options.cfg_options)
    transforms = measure_transforms(cfg, options)
    return transforms, [measure_workers(cfg, number, options) for number in options.workers]


def measure_transforms(cfg: Config, options: LoadingOptions) -> list[dict]:
    """Return the mean time of every transform of the training pipeline, in this process."""
    np.random.seed(options.seed)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    pipeline = dataset.pipeline.transforms
    seconds: dict[int, float] = defaultdict(float)
    # One image warms up.
    for number in range(-1, options.num_images):
        results = dataset.get_data_info(max(number, 0) % len(dataset))
        for index, transform in enumerate(pipeline):
            start = time.perf_counter()
            results = transform(results)
            if number >= 0:
                seconds[index] += time.perf_counter() - start
    total = sum(seconds.values())
    return [
        dict(
            transform=_transform_name(transform),
            ms=1000 * seconds[index] / options.num_images,
            percent=100 * seconds[index] / total,
        )
        for index, transform in enumerate(pipeline)
    ]


def measure_workers(cfg: Config, num_workers: int, options: LoadingOptions) -> dict:
    """Return the images per second that a number of worker processes load, once they are started."""
    print(f'{num_workers} workers ...', file=sys.stderr, flush=True)
    dataloader = cfg.train_dataloader.copy()
    dataloader.update(
        num_workers=num_workers, batch_size=options.batch_size, persistent_workers=num_workers > 0, pin_memory=False
    )
    batches = iter(Runner.build_dataloader(dataloader, seed=options.seed))
    num_batches = max(1, options.num_images // options.batch_size)
    # Each worker loads two batches ahead: the first ones come from a full queue.
    for _ in islice(batches, 2 * max(1, num_workers)):
        pass
    start = time.perf_counter()
    for _ in islice(batches, num_batches):
        pass
    seconds = time.perf_counter() - start
    return dict(workers=num_workers, images_per_second=num_batches * options.batch_size / seconds)


def _transform_name(transform: object) -> str:
    """Return a transform's class, and in brackets those within."""
    inner = getattr(transform, 'resize', None)
    name = type(transform).__name__
    return f'{name} ({type(inner).__name__})' if inner is not None else name


def write_random_coco(root: Path, num_images: int, size: tuple[int, int] = (480, 640), seed: int = 0) -> None:
    """Write random images and label maps in the layout of COCO-Stuff.

    The images have the spectrum of photographs, more contrast the coarser the detail, so that decoding and resizing
    take as long as those of photographs. The label maps have regions of random classes.

    Args:
        root (Path): Folder that becomes ``data_root``.
        num_images (int): How many of each.
        size (tuple[int, int]): Height and width in pixels.
        seed (int): Of images and labels.
    """
    random = np.random.default_rng(seed)
    image_folder = root / 'images/train2017'
    label_folder = root / 'annotations/train2017'
    for folder in (image_folder, label_folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_images):
        Image.fromarray(random_photograph(random, size)).save(image_folder / f'{number:012d}.jpg', quality=95)
        Image.fromarray(random_regions(random, size)).save(label_folder / f'{number:012d}_labelTrainIds.png')


def random_photograph(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a random image (H, W, 3) uint8 with the spectrum of a photograph."""
    image = np.zeros((*size, 3), np.float32)
    for octave in range(NUM_OCTAVES):
        side = 2 ** (octave + 1)
        grid = random.normal(size=(min(side, size[0]), min(side, size[1]), 3)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(grid[..., channel]).resize(size[::-1], Image.Resampling.BICUBIC))
            for channel in range(3)
        ]
        image += ROUGHNESS**octave * np.stack(channels, -1)
    return np.clip(128 + 45 * image, 0, 255).astype(np.uint8)


def random_regions(random: np.random.Generator, size: tuple[int, int], num_classes: int = 171) -> np.ndarray:
    """Return a label map (H, W) uint8 of regions around random points; one of them is unlabelled (255)."""
    points = random.uniform(0, size, (NUM_REGIONS, 2))
    labels = random.integers(0, num_classes, NUM_REGIONS)
    labels[0] = 255
    rows, columns = np.mgrid[: size[0], : size[1]]
    distances = [(rows - row) ** 2 + (columns - column) ** 2 for row, column in points]
    return labels[np.argmin(distances, 0)].astype(np.uint8)


def transform_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows of transforms as a table, their sum last."""
    table = PrettyTable(['transform', 'ms per image', '%'], align='r')
    table.align['transform'] = 'l'
    for row in rows:
        table.add_row([row['transform'], f'{row["ms"]:.1f}', f'{row["percent"]:.0f}'])
    total = sum(row['ms'] for row in rows)
    table.add_row(['all', f'{total:.1f}', '100'])
    return table


def worker_table(rows: Sequence[dict]) -> PrettyTable:
    """Return the rows of workers as a table."""
    table = PrettyTable(['workers', 'images per second', 'images per second and worker'], align='r')
    for row in rows:
        speed = row['images_per_second']
        table.add_row([row['workers'], f'{speed:.1f}', f'{speed / max(1, row["workers"]):.1f}'])
    return table


def describe_threads() -> str:
    """Return the line above the tables: threads of the libraries that load images."""
    return f'{torch.get_num_threads()} threads of torch, Pillow {Image.__version__}'
