"""Turn the 2021 release of ADE20K into the folders that the ADE20K-Full configs read, 847 classes in 16 bits.

python tools/dataset_converters/ade20k_full.py data/ADE20K_2021_17_01 data/ade20k_full

As the released ZegFormer, pictures whose shorter side is above 512 are reduced to that. Parts of objects are left out.
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
from mmzeg.utils.plain_pickle import read_plain_pickle
from mmzeg.utils.preflight import one_line_errors

INDEX = 'index_ade20k.pkl'
IGNORED = 65535
SHORTEST = 512
SPLITS = {'train': 'training', 'val': 'validation'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help=f'the release as unpacked: the folder that holds {INDEX}')
    parser.add_argument('out', type=Path, help='folder to write; a run that was stopped is gone on with')
    parser.add_argument('--overwrite', action='store_true', help='write files anew that are there already')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes')
    return parser.parse_args()


def class_table() -> np.ndarray:
    """For every value of the release's label maps the position in the split's list, seen first, or 65535."""
    split = json.loads(pkgutil.get_data('mmzeg', 'datasets/splits/ade20k_full_572_275.json'))
    # Red is a multiple of 10 from 0 to 250, green a byte.
    table = np.full(26 * 256, IGNORED, np.uint16)
    for position, name in enumerate([*split['seen'], *split['unseen']]):
        table[split['ade_full_id'][name]] = position
    return table


def pictures(source: Path) -> list[tuple[Path, str]]:
    """Every picture that the index lists, with its split.

    Raises:
        FileNotFoundError: No index, or a picture or its label map is missing.
        ValueError: The index is of another version.
    """
    path = source / INDEX
    if not path.is_file():
        raise FileNotFoundError(f'{path}: not there; give the folder of the release of 17 January 2021, unpacked')
    index = read_plain_pickle(path)
    for key in ('folder', 'filename'):
        if not isinstance(index, dict) or key not in index:
            raise ValueError(f'{path}: no {key!r} in it: this is the index of another version; use that of 2021_17_01')
    found = []
    for folder, name in zip(index['folder'], index['filename'], strict=True):
        # The index begins every folder with the release's own name.
        picture = source / Path(*Path(str(folder)).parts[1:]) / str(name)
        split = str(name).split('_')[1]
        if split not in SPLITS:
            raise ValueError(f'{path}: {name} is of no known split; expected ADE_train_ or ADE_val_')
        for file in (picture, label_file(picture)):
            if not file.is_file():
                raise FileNotFoundError(f'{file}: not there, though {path.name} lists it: unpack the release again')
        found.append((picture, SPLITS[split]))
    return found


def label_file(picture: Path) -> Path:
    """Its label map, whose red and green code the class."""
    return picture.with_name(f'{picture.stem}_seg.png')


def convert(item: tuple[Path, str], out: Path, table: np.ndarray, overwrite: bool) -> None:
    """Write a picture and its label map, the label map last."""
    picture, split = item
    target = out / 'annotations' / split / f'{picture.stem}.png'
    if target.exists() and not overwrite:
        return
    image, code = _read(picture), _read(label_file(picture))
    if code.shape != image.shape:
        raise ValueError(f'{label_file(picture)}: of another size than {picture.name}: unpack the release again')
    labels = table[code[..., 0].astype(np.int64) // 10 * 256 + code[..., 1]]
    height, width = labels.shape
    shortest = min(height, width)
    if shortest > SHORTEST:
        size = tuple(SHORTEST if side == shortest else round(side / shortest * SHORTEST) for side in (width, height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    photo = out / 'images' / split / picture.name
    atomic_write(photo, lambda path: Image.fromarray(image).save(path, format='JPEG'))
    atomic_write(target, lambda path: Image.fromarray(labels).save(path, format='PNG'))


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{path}: not a whole image ({error}): unpack the release again') from error


@one_line_errors
def main() -> None:
    args = parse_args()
    found = pictures(args.source)
    for part in ('images', 'annotations'):
        for split in SPLITS.values():
            (args.out / part / split).mkdir(parents=True, exist_ok=True)
    work = partial(convert, out=args.out, table=class_table(), overwrite=args.overwrite)
    track_parallel_progress(work, found, args.workers, chunksize=8, keep_order=False, file=sys.stderr)
    print(f'{args.out}: {len(found)} pictures and label maps')


if __name__ == '__main__':
    main()
