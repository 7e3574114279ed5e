"""Segment images, folders, videos or a camera by any class names, and draw the label maps.

python tools/demo.py CONFIG CHECKPOINT photos/ clip.mp4 --classes "cat, kitten; dog; sofa" --out results
python tools/demo.py PUBLISHED_MODEL.safetensors photos/ --out results
python tools/demo.py labels/train_segformer.py STUDENT.pth photos/ --out results
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
from mmengine.config import DictAction

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.closed_set_inferencer import ClosedSetInferencer, is_closed_set
from mmzeg.apis.image_reading import expand_inputs
from mmzeg.apis.prediction_writer import PredictionWriter
from mmzeg.apis.segment_files import segment_files
from mmzeg.class_names import parse_class_names, parse_classes_option
from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments
from mmzeg.publishing.published_model import SUFFIX, read_model_config
from mmzeg.utils.image_decoding import IMAGE_SUFFIXES
from mmzeg.utils.preflight import one_line_errors


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument('inputs', nargs='+', help='images, folders, videos, or the number of a camera')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--classes',
        help='class names: ";" between classes, ", " between synonyms ("cat, kitten; dog"); or a .txt file with one '
        "class per line; or a .json file with the lists seen and unseen. Defaults to the config's",
    )
    parser.add_argument(
        '--seen', type=parse_class_names, help='classes scored as seen; defaults to those of the training, by name'
    )
    parser.add_argument('--save-masks', action='store_true', help='also write label maps, PNG of class indices')
    parser.add_argument('--segments', action='store_true', help='also write the segments, JSON with COCO RLE masks')
    parser.add_argument('--mode', help="fusion mode: seg, img, full, unseen or geometric; defaults to the config's")
    parser.add_argument('--lam', type=float, help='ensemble weight lambda, 0..1')
    parser.add_argument('--gamma', type=float, help='calibration, subtracted from the scores of seen classes')
    parser.add_argument('--device', help='cuda:0, cpu; defaults to a GPU if there is one')
    parser.add_argument('--batch-size', type=int, default=1, help='images that go through the network together')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parse_model_arguments(parser, arguments, inputs='inputs')


def list_sources(inputs: Sequence[str], out: Path) -> list[str | int]:
    """Return single files and camera numbers.

    Raises:
        FileNotFoundError: No such file, no match of a pattern, or a folder without images and videos.
        ValueError: An input is in the output folder, where it might be replaced.
    """
    cameras_and_paths = [int(name) if name.isdecimal() and not Path(name).exists() else name for name in inputs]
    sources = expand_inputs(cameras_and_paths)
    for source in sources:
        if isinstance(source, str) and not Path(source).is_file():
            raise FileNotFoundError(f'{source}: no such file')
    for source in sources:
        if isinstance(source, str) and Path(source).resolve().is_relative_to(out.resolve()):
            raise ValueError(f'--out {out}: {source} is in this folder and might be overwritten: give another one')
    return sources


def make_folder(folder: Path) -> None:
    """Create the output folder and check that it can be written, before the long work."""
    if not folder.is_dir() and folder.suffix.lower() in IMAGE_SUFFIXES | {'.mp4'}:
        raise ValueError(f'--out {folder}: give a folder, files get the names of their inputs')
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_closed_set_options(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that a model of fixed classes does not have."""
    for name in ('classes', 'seen', 'mode', 'lam', 'gamma', 'segments'):
        value = getattr(args, name)
        # Zero is a value, too.
        if value is not None and value is not False:
            raise ValueError(
                f'--{name}: {args.config} is a model of fixed classes, those that it was trained on: leave the option '
                'out, or give a ZegFormer'
            )


def run(args: argparse.Namespace) -> list[str]:
    """Segment all inputs; returns the errors of those that could not be segmented."""
    settings = parse_classes_option(args.classes, args.seen)
    settings |= dict(mode=args.mode, lam=args.lam, gamma=args.gamma, masks=args.segments)
    sources = list_sources(args.inputs, args.out)
    cfg = read_model_config(args.config, args.cfg_options)
    has_fixed_classes = is_closed_set(cfg)
    if has_fixed_classes:
        check_closed_set_options(args)
        settings = {}
    make_folder(args.out)
    if has_fixed_classes:
        inferencer = ClosedSetInferencer(cfg, args.checkpoint, args.device)
        classes = inferencer.classes
    else:
        inferencer = ZeroShotInferencer(cfg, args.checkpoint, args.device)
        classes = settings['classes'] or inferencer.model.vocabulary.names
    writer = PredictionWriter(args.out, args.save_masks, args.segments, sources)
    if args.save_masks:
        writer.write_classes(classes)
    settings['batch_size'] = args.batch_size
    errors = segment_files(inferencer, sources, writer, **settings)
    if errors:
        errors.append(f'{len(errors)} of {len(sources)} inputs could not be segmented')
    return errors


@one_line_errors
def main() -> None:
    # OpenCV and FFmpeg would print their own messages about a damaged file; this tool prints one line.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cv2.setLogLevel(0)
    args = parse_args()
    if Path(args.config).suffix not in ('', '.py', SUFFIX):
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
