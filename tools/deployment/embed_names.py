"""Add class names to an exported model: their text embeddings; the graphs stay as they are.

python tools/deployment/embed_names.py CONFIG FOLDER zebra "sofa, couch"
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmzeg.deployment.class_embeddings import add_class_names
from mmzeg.deployment.onnx_runner import NAMES
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config that was exported')
    parser.add_argument('folder', type=Path, help='folder that export_onnx.py wrote')
    parser.add_argument('names', nargs='+', help='class names; "sofa, couch" is one class with a synonym')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='those of the export')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    num_added, num_names = add_class_names(args.config, args.folder, args.names, args.cfg_options)
    print(f'{args.folder / NAMES}: {num_added} names added, {num_names} in total')


if __name__ == '__main__':
    main()
