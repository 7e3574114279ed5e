"""Convert the 2021 release of ADE20K into the folders that the ADE20K-Full configs read, 847 classes in 16 bits.

python tools/dataset_converters/ade20k_full.py data/ADE20K_2021_17_01 data/ade20k_full

As in the released ZegFormer, an image whose shorter side is above 512 is reduced to 512. Object parts are left out.
"""

import argparse
import json
import os
import pkgutil
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_parallel_progress
from PIL import Image

from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.restricted_pickle import read_plain_pickle
from mmzeg.utils.tool_arguments import add_trust_argument

INDEX = 'index_ade20k.pkl'
IGNORE_INDEX = 65535
MAX_SHORT_SIDE = 512
# Split in a file's name -> folder of that split.
SPLITS = {'train': 'training', 'val': 'validation'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help=f'the unpacked release: the folder that holds {INDEX}')
    parser.add_argument('out', type=Path, help='output folder; an interrupted run is resumed')
    parser.add_argument('--overwrite', action='store_true', help='write existing files again')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='number of processes')
    add_trust_argument(parser)
    return parser.parse_args()


def class_index_table() -> np.ndarray:
    """Return for every id of the release (V,) its class index in the split's list, seen first, or 65535."""
    split = json.loads(pkgutil.get_data('mmzeg', 'datasets/splits/ade20k_full_572_275.json'))
    # An id is red / 10 * 256 + green; red is a multiple of 10 from 0 to 250.
    table = np.full(26 * 256, IGNORE_INDEX, np.uint16)
    for class_index, name in enumerate([*split['seen'], *split['unseen']]):
        table[split['ade_full_id'][name]] = class_index
    return table


def list_images(source: Path) -> list[tuple[Path, str]]:
    """Return every image of the index with the folder name of its split.

    Raises:
        FileNotFoundError: The index, an image or a label map does not exist.
        ValueError: The index is of another version.
    """
    # Read the index.
    path = source / INDEX
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; give the unpacked folder of the release of 17 January 2021')
    index = read_plain_pickle(path)
    for key in ('folder', 'filename'):
        if not isinstance(index, dict) or key not in index:
            raise ValueError(f'{path}: no {key!r} in this index, so it is of another version; use that of 2021_17_01')

    # Check its files.
    images = []
    for folder, name in zip(index['folder'], index['filename'], strict=True):
        # Every folder in the index begins with the release's own name.
        image_path = source / Path(*Path(str(folder)).parts[1:]) / str(name)
        split = str(name).split('_')[1]
        if split not in SPLITS:
            raise ValueError(f'{path}: the split of {name} is unknown; expected ADE_train_ or ADE_val_')
        for file in (image_path, label_path(image_path)):
            if not file.is_file():
                raise FileNotFoundError(f'{file}: no such file, but {path.name} lists it: unpack the release again')
        images.append((image_path, SPLITS[split]))
    return images


def label_path(image_path: Path) -> Path:
    """Return the path of an image's label map, whose red and green encode the class."""
    return image_path.with_name(f'{image_path.stem}_seg.png')


def convert(item: tuple[Path, str], out: Path, table: np.ndarray, overwrite: bool) -> None:
    """Write an image and its label map, the label map last.

    Args:
        item (tuple[Path, str]): An image and the folder name of its split.
        out (Path): Output folder.
        table (ndarray): Class indices of ``class_index_table``.
        overwrite (bool): Whether to write existing files again.

    Raises:
        ValueError: A file is truncated, or the sizes of image and label map differ.
    """
    image_path, split = item
    target = out / 'annotations' / split / f'{image_path.stem}.png'
    if target.exists() and not overwrite:
        return

    # Decode the class indices.
    image = _read_rgb(image_path)
    code = _read_rgb(label_path(image_path))
    if code.shape != image.shape:
        raise ValueError(f'{label_path(image_path)}: not of the size of {image_path.name}: unpack the release again')
    labels = table[code[..., 0].astype(np.int64) // 10 * 256 + code[..., 1]]

    # Reduce large images.
    height, width = labels.shape
    short_side = min(height, width)
    if short_side > MAX_SHORT_SIDE:
        size = tuple(
            MAX_SHORT_SIDE if side == short_side else round(side / short_side * MAX_SHORT_SIDE)
            for side in (width, height)
        )
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)

    # The label map is written last, because it marks the image as converted.
    image_target = out / 'images' / split / image_path.name
    atomic_write(image_target, lambda path: Image.fromarray(image).save(path, format='JPEG'))
    atomic_write(target, lambda path: Image.fromarray(labels).save(path, format='PNG'))


def _read_rgb(path: Path) -> np.ndarray:
    """Read an image file: (H, W, 3) uint8."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{path}: truncated or not an image ({error}); unpack the release again') from error


@one_line_errors
def main() -> None:
    args = parse_args()
    images = list_images(args.source)
    for folder in ('images', 'annotations'):
        for split in SPLITS.values():
            (args.out / folder / split).mkdir(parents=True, exist_ok=True)
    work = partial(convert, out=args.out, table=class_index_table(), overwrite=args.overwrite)
    track_parallel_progress(work, images, args.workers, chunksize=8, keep_order=False, file=sys.stderr)
    print(f'{args.out}: {len(images)} images and label maps')


if __name__ == '__main__':
    main()
