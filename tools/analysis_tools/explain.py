"""Explain a prediction in one HTML file: masks, crops, and the scores of each branch.

python tools/analysis_tools/explain.py CONFIG CHECKPOINT IMAGE --out explained.html
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.explanation import explain_image
from mmzeg.class_names import parse_class_names, parse_classes_option
from mmzeg.datasets.transforms.load_labels import read_label_map
from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments
from mmzeg.publishing.published_model import read_model_config
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.image_decoding import read_image
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument('image', help='image file')
    parser.add_argument('--out', type=Path, default=Path('explained.html'), help='HTML file to write')
    parser.add_argument('--classes', help='"cat, kitten; dog", or a file of class names; defaults to the config\'s')
    parser.add_argument(
        '--seen', type=parse_class_names, help='classes scored as seen; defaults to those of the training, by name'
    )
    parser.add_argument('--pixel', type=int, nargs=2, metavar=('X', 'Y'), help='column and row of a pixel to explain')
    parser.add_argument(
        '--labels', type=Path, help='ground truth (PNG of class indices, 255: not annotated), for errors by cause'
    )
    parser.add_argument('--mode', help="fusion mode: seg, img, full, unseen or geometric; defaults to the config's")
    parser.add_argument('--lam', type=float, help='ensemble weight lambda, 0..1')
    parser.add_argument('--gamma', type=float, help='calibration, subtracted from the scores of seen classes')
    parser.add_argument('--device', help='cuda:0, cpu; defaults to a GPU if there is one')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parse_model_arguments(parser)


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_model_config(args.config, args.cfg_options)
    annotation = None
    if args.labels:
        if not args.labels.is_file():
            raise FileNotFoundError(f'{args.labels}: no such label map')
        annotation = read_label_map(str(args.labels), args.labels.read_bytes(), 255)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    inferencer = ZeroShotInferencer(cfg, args.checkpoint, args.device)
    page = explain_image(
        inferencer,
        read_image(args.image),
        title=Path(args.image).name,
        fusion=inferencer.fusion(args.mode, args.lam, args.gamma),
        **parse_classes_option(args.classes, args.seen),
        pixel=args.pixel,
        annotation=annotation,
        file=args.image,
    )
    atomic_write(args.out, lambda partial: partial.write_text(page, encoding='utf-8'))
    print(f'{args.out}: open it in a browser')


if __name__ == '__main__':
    main()
