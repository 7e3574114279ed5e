"""Label all images of a folder by any class names, and write a dataset to train other models on.

python tools/label.py CONFIG CHECKPOINT images/ OUT --classes "cat, kitten; dog; sofa"
torchrun --nproc_per_node 8 tools/label.py PUBLISHED_MODEL.safetensors images/ OUT --launcher pytorch
"""

import argparse
import os
import sys
from collections.abc import Sequence

import cv2
from mmengine.config import DictAction

from mmzeg.class_names import parse_class_names, parse_classes_option
from mmzeg.labelling.label_folder import label_folder, summary
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.process_group import LAUNCHERS
from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments
from mmzeg.publishing.published_model import read_model_config
from mmzeg.utils.preflight import check_device, one_line_errors


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument('folders', nargs='+', metavar='FOLDER', help='IMAGES OUT: the images, and where to write to')
    parser.add_argument(
        '--classes',
        help='class names: ";" between classes, ", " between synonyms ("cat, kitten; dog"); or a .txt file with one '
        "class per line; or a .json file with the lists seen and unseen. Defaults to the config's",
    )
    parser.add_argument(
        '--seen', type=parse_class_names, help='classes scored as seen; defaults to those of the training, by name'
    )
    parser.add_argument('--mode', help="fusion mode: seg, img, full, unseen or geometric; defaults to the config's")
    parser.add_argument('--lam', type=float, help='ensemble weight lambda, 0..1')
    parser.add_argument('--gamma', type=float, help='calibration, subtracted from the scores of seen classes')
    parser.add_argument('--device', help='cuda:0, cpu; defaults to a GPU if there is one')
    parser.add_argument('--batch-size', type=int, default=1, help='images that go through the network together')
    parser.add_argument(
        '--ignore-below',
        type=float,
        default=0.0,
        help='ignore pixels whose best class exceeds the second by less, 0..1',
    )
    parser.add_argument('--min-area', type=int, default=0, help='ignore regions of a class with fewer pixels')
    parser.add_argument('--save-scores', action='store_true', help='also write the margins of all pixels, PNG')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how the processes are started')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parse_model_arguments(parser, arguments, inputs='folders')
    if len(args.folders) != 2:
        parser.error(f'give two folders, IMAGES and OUT; these are {len(args.folders)}: {" ".join(args.folders)}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@one_line_errors
def main() -> None:
    # OpenCV would print its own messages; this tool prints one line.
    cv2.setLogLevel(0)
    args = parse_args()
    names = parse_classes_option(args.classes, args.seen)
    images, out = args.folders
    fields = ('mode', 'lam', 'gamma', 'device', 'batch_size', 'ignore_below', 'min_area', 'save_scores')
    options = LabelOptions(images, out, **names, **{field: getattr(args, field) for field in fields})
    if args.device is not None:
        check_device(args.device)
    cfg = read_model_config(args.config, args.cfg_options)
    try:
        rows = label_folder(cfg, args.checkpoint, options, args.launcher)
    except KeyboardInterrupt:
        print('mmzeg: stopped; start again with the same arguments to label the other images', file=sys.stderr)
        sys.exit(130)
    if rows:
        print(summary(rows, out))


if __name__ == '__main__':
    main()
