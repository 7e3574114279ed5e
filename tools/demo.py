"""Segment pictures, folders, videos or a camera by any class names, and draw what was found.

python tools/demo.py CONFIG CHECKPOINT photos/ clip.mp4 --classes "cat, kitten; dog; sofa" --out found
"""

import argparse
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import DictAction
from PIL import Image
from pycocotools import mask as coco_mask
from rich.progress import Progress

from mmzeg.apis import ZeroShotInferencer
from mmzeg.class_names import parse_classes_option, parse_class_names
from mmzeg.apis.drawing import encoded, indexed_png, overlay
from mmzeg.apis.image_reading import SUFFIXES, expand
from mmzeg.apis.video import VideoWriter, copy_sound, is_video, video_info
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', help='pictures, folders, videos, or the number of a camera')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--classes',
        help='names: ";" between classes, ", " between synonyms ("cat, kitten; dog"); or a .txt file of one class a '
        "line; or a .json file with the lists seen and unseen. Defaults to the config's",
    )
    parser.add_argument(
        '--seen', type=parse_class_names, help='classes scored as seen; by default those of training, by name'
    )
    parser.add_argument('--save-masks', action='store_true', help='also write label maps, PNG of class indices')
    parser.add_argument('--segments', action='store_true', help='also write the segments, JSON with COCO RLE masks')
    parser.add_argument('--mode', help="seg, img, full or unseen; defaults to the config's")
    parser.add_argument('--lam', type=float, help='balance of the two opinions, 0..1')
    parser.add_argument('--gamma', type=float, help='taken from the scores of seen classes')
    parser.add_argument('--device', help='cuda:0, cpu; by default a GPU if there is one')
    parser.add_argument('--batch-size', type=int, default=1, help='pictures that go through the network together')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args(arguments)


def sources_of(inputs: Sequence[str], out: Path) -> list[str | int]:
    """Single files and camera numbers.

    Raises:
        FileNotFoundError: No such file, nothing fits a pattern, or a folder has neither pictures nor videos.
        ValueError: What is written would replace what is read.
    """
    found = expand([int(name) if name.isdecimal() and not Path(name).exists() else name for name in inputs])
    missing = [source for source in found if isinstance(source, str) and not Path(source).is_file()]
    if missing:
        raise FileNotFoundError(f'{missing[0]}: no such file')
    inside = [source for source in found if isinstance(source, str) and Path(source).resolve().parent == out.resolve()]
    if inside:
        raise ValueError(f'--out {out}: {inside[0]} is in this folder and might be written over: give another one')
    return found


def make_folder(folder: Path) -> None:
    """Make it and write there once, before the long work."""
    if not folder.is_dir() and folder.suffix.lower() in SUFFIXES | {'.mp4'}:
        raise ValueError(f'--out {folder}: give a folder, files get the names of their inputs')
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


class Output:
    """Names and files of what is found.

    Args:
        folder (Path): Drawn pictures and videos lie here, label maps in ``masks``, segments in ``segments``.
        masks, segments (bool): Whether to write these.
    """

    def __init__(self, folder: Path, masks: bool, segments: bool) -> None:
        self.folder, self.masks, self.segments = folder, masks, segments
        self._taken: set[str] = set()

    def name(self, source: str | int) -> str:
        """The stem of the input; with a number where another input has the same."""
        stem = f'camera{source}' if isinstance(source, int) else Path(source).stem
        name, number = stem, 2
        while name.lower() in self._taken:
            name, number = f'{stem}-{number}', number + 1
        self._taken.add(name.lower())
        return name

    def write(self, name: str, found: dict) -> None:
        """Label map and segments, as asked for."""
        label_map, prediction = found['prediction']['label_map'], found['prediction']
        if self.masks:
            save(self.folder / f'masks/{name}.png', indexed_png(label_map, len(prediction['classes'])))
        if self.segments:
            height, width = label_map.shape
            content = dict(input=str(found['input']), height=height, width=width)
            content['segments'] = [with_rle(segment) for segment in prediction['segments']]
            save(self.folder / f'segments/{name}.json', content)


def with_rle(segment: dict) -> dict:
    """A segment with its mask as COCO RLE in place of (H, W) bool."""
    rle = coco_mask.encode(np.asfortranarray(segment['mask'], np.uint8))
    rest = {key: value for key, value in segment.items() if key != 'mask'}
    return rest | dict(segmentation=rle | dict(counts=rle['counts'].decode()))


def save(path: Path, content: bytes | dict) -> None:
    """A whole file, of a dict as JSON, or an OSError that names it."""
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic_write(path, lambda partial: partial.write_bytes(content))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def segment_pictures(stream: Iterator[dict], count: int, output: Output) -> list[str]:
    """Write what is found in pictures; returns the errors of those that could not be read."""
    errors = []
    with Progress() as bar:
        for found in bar.track(stream, count, description='pictures'):
            if found['error'] is not None:
                errors.append(found['error'])
                continue
            name = output.name(found['input'])
            save(output.folder / f'{name}.jpg', encoded(Image.fromarray(drawn(found)), 'JPEG', quality=95))
            output.write(name, found)
    return errors


def segment_video(stream: Iterator[dict], source: str | int, output: Output) -> None:
    """Write what is found in a video, or in what a camera sees until Ctrl-C.

    Raises:
        ValueError: A frame cannot be read or taken.
    """
    info, name, camera = video_info(source), output.name(source), isinstance(source, int)
    path, start, number = output.folder / f'{name}.mp4', time.monotonic(), 0
    with VideoWriter(path, info.fps) as writer:
        try:
            with Progress() as bar:
                for found in bar.track(stream, info.frames or None, description=path.name):
                    if found['error'] is not None:
                        raise ValueError(found['error'])
                    frame = drawn(found, steady=True)[..., ::-1]
                    writer.write(frame)
                    # A camera does not wait: its frames are repeated, so that the video is as fast as life.
                    due = (time.monotonic() - start) * info.fps
                    while camera and writer.count < due:
                        writer.write(frame)
                    output.write(f'{name}/{number:06d}', found)
                    number += 1
        except KeyboardInterrupt:
            if not camera or not writer.count:
                raise
    print(f'{path}: {number} frames')
    if number < info.frames:
        print(f'{source}: says that it has {info.frames} frames, and {number} could be read')
    if not camera and (reason := copy_sound(source, path)):
        print(f'{path}: the sound, if there was one, was left out: {reason}')


def drawn(found: dict, steady: bool = False) -> np.ndarray:
    """What the stream found, (H, W', 3) uint8 RGB."""
    prediction = found['prediction']
    named = (prediction['classes'], prediction['unseen'])
    return overlay(found['picture'], prediction['label_map'], *named, steady=steady)


def run(args: argparse.Namespace) -> list[str]:
    """Segment all inputs; returns the errors of those that could not be."""
    asked = parse_classes_option(args.classes, args.seen)
    asked |= dict(mode=args.mode, lam=args.lam, gamma=args.gamma, batch_size=args.batch_size, masks=args.segments)
    sources = sources_of(args.inputs, args.out)
    make_folder(args.out)
    cfg = read_config(args.config, args.cfg_options)
    inferencer = ZeroShotInferencer(cfg, args.checkpoint, args.device)
    output = Output(args.out, args.save_masks, args.segments)
    if args.save_masks:
        save(args.out / 'masks/classes.json', dict(enumerate(asked['classes'] or inferencer.model.vocabulary.names)))
    moving = [source for source in sources if isinstance(source, int) or is_video(source)]
    pictures = [source for source in sources if not isinstance(source, int) and not is_video(source)]
    errors = []
    if pictures:
        errors += segment_pictures(inferencer.stream(pictures, **asked), len(pictures), output)
    for source in moving:
        try:
            segment_video(inferencer.stream(source, **asked), source, output)
        except (OSError, ValueError) as error:
            # No other video has room either.
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            errors.append(str(error))
    if errors:
        errors.append(f'{len(errors)} of {len(sources)} inputs could not be segmented')
    return errors


@one_line_errors
def main() -> None:
    # What they say of a broken file comes in other words, in one line.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cv2.setLogLevel(0)
    args = parse_args()
    if Path(args.config).suffix != '.py':
        raise ValueError(f'{args.config}: not a config; the order is CONFIG CHECKPOINT INPUT ...')
    try:
        errors = run(args)
    except KeyboardInterrupt:
        print('mmzeg: stopped', file=sys.stderr)
        sys.exit(130)
    for error in errors:
        print(f'mmzeg: error: {error}', file=sys.stderr)
    if errors:
        sys.exit(1)


if __name__ == '__main__':
    main()
