"""Turn the .mat label maps of Pascal Context into PNGs of 459 classes in 16 bits.

python tools/dataset_converters/pascal_context_459.py trainval data/VOCdevkit/VOC2010/SegmentationClassContext459

``trainval`` is the folder of the full annotations (trainval.tar.gz): value 1 to 459 in the order of its labels.txt.
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

CLASSES, IGNORED = 459, 65535


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='folder of .mat files')
    parser.add_argument('out', type=Path, help='folder of PNGs; a run that was stopped is gone on with')
    parser.add_argument('--overwrite', action='store_true', help='write files anew that are there already')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes')
    return parser.parse_args()


def convert(source: Path, out: Path, overwrite: bool) -> None:
    """Write one label map: 0 to 458, 65535 where the file has 0."""
    target = out / f'{source.stem}.png'
    if target.exists() and not overwrite:
        return
    try:
        found = loadmat(source)
    # scipy raises types of its own, and whatever a damaged stream leads to.
    except Exception as error:
        raise ValueError(f'{source}: not a whole .mat file ({type(error).__name__}): unpack it again') from error
    labels = found.get('LabelMap')
    if labels is None or labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'{source}: no LabelMap of integers in it: these are not the annotations of Pascal Context')
    if labels.max() > CLASSES:
        raise ValueError(
            f'{source}: value {labels.max()}, but there are {CLASSES} classes: another version of the data'
        )
    labels = np.where(labels == 0, IGNORED, labels.astype(np.int64) - 1).astype(np.uint16)
    atomic_write(target, lambda path: Image.fromarray(labels).save(path, format='PNG'))


@one_line_errors
def main() -> None:
    args = parse_args()
    files = sorted(args.source.glob('*.mat'))
    if not files:
        raise FileNotFoundError(f'{args.source}: no .mat file there; give the folder trainval of the annotations')
    args.out.mkdir(parents=True, exist_ok=True)
    work = partial(convert, out=args.out, overwrite=args.overwrite)
    track_parallel_progress(work, files, args.workers, chunksize=8, keep_order=False, file=sys.stderr)
    print(f'{args.out}: {len(files)} label maps')


if __name__ == '__main__':
    main()
