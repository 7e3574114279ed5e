"""Convert the .mat label maps of Pascal Context into PNGs of 459 classes in 16 bits.

python tools/dataset_converters/pascal_context_459.py trainval data/VOCdevkit/VOC2010/SegmentationClassContext459

``trainval`` is the folder of the full annotations (trainval.tar.gz): values 1 to 459 in the order of its labels.txt.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.utils import track_parallel_progress
from PIL import Image
from scipy.io import loadmat

from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors

NUM_CLASSES = 459
IGNORE_INDEX = 65535


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='folder of .mat files')
    parser.add_argument('out', type=Path, help='output folder of PNGs; an interrupted run is resumed')
    parser.add_argument('--overwrite', action='store_true', help='write existing files again')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='number of processes')
    return parser.parse_args()


def convert(source: Path, out: Path, overwrite: bool) -> None:
    """Write a label map of class indices 0 to 458, 65535 where the .mat file has 0.

    Raises:
        ValueError: The file is truncated or no label map of Pascal Context; names it.
    """
    target = out / f'{source.stem}.png'
    if target.exists() and not overwrite:
        return
    # Read and check the file. scipy raises its own types, or any other type for a corrupted stream.
    try:
        content = loadmat(source)
    except Exception as error:
        raise ValueError(f'{source}: truncated or not a .mat file ({type(error).__name__}); unpack it again') from error
    labels = content.get('LabelMap')
    if labels is None or labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'{source}: has no LabelMap of integers, so it is no annotation of Pascal Context')
    if labels.max() > NUM_CLASSES:
        raise ValueError(
            f'{source}: value {labels.max()}, but there are {NUM_CLASSES} classes: another version of the data'
        )
    # Shift the values to class indices.
    class_indices = np.where(labels == 0, IGNORE_INDEX, labels.astype(np.int64) - 1).astype(np.uint16)
    atomic_write(target, lambda path: Image.fromarray(class_indices).save(path, format='PNG'))


@one_line_errors
def main() -> None:
    args = parse_args()
    files = sorted(args.source.glob('*.mat'))
    if not files:
        raise FileNotFoundError(f'{args.source}: no .mat file here; give the folder trainval of the annotations')
    args.out.mkdir(parents=True, exist_ok=True)
    work = partial(convert, out=args.out, overwrite=args.overwrite)
    track_parallel_progress(work, files, args.workers, chunksize=8, keep_order=False, file=sys.stderr)
    print(f'{args.out}: {len(files)} label maps')


if __name__ == '__main__':
    main()
