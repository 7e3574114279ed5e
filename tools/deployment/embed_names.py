"""Add class names to an exported model: their text embeddings, no graph changes.

python tools/deployment/embed_names.py CONFIG FOLDER zebra "sofa, couch"
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from export_onnx import load, name_embeddings, write_names
from mmengine.config import DictAction

from mmzeg.deployment.onnx_runner import NAMES
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config that was exported')
    parser.add_argument('folder', type=Path, help='what export_onnx.py wrote')
    parser.add_argument('names', nargs='+', help='class names, "sofa, couch" being one class with a synonym')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='those of the export')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    path = args.folder / NAMES
    if not path.is_file():
        raise FileNotFoundError(f'{path}: not there; make the folder with tools/deployment/export_onnx.py')
    with np.load(path, allow_pickle=False) as file:
        known = {key: file[key] for key in file.files}
    names = [name for name in dict.fromkeys(args.names) if name not in known['names']]
    # The model's own weights name nothing.
    warnings.filterwarnings('ignore', message='Checkpoint is not loaded')
    model = load(args.config, None, args.cfg_options).model
    # The first name again: were it embedded otherwise, so would be the new ones.
    found = name_embeddings(model, [str(known['names'][0]), *names])
    for key in known.keys() - {'names'}:
        same = key in found and found[key].shape[1:] == known[key].shape[1:]
        if not same or not np.allclose(found[key][0], known[key][0], atol=1e-4):
            raise ValueError(
                f'{args.config} gives {known["names"][0]!r} another embedding than {path} has: name the config that '
                'was exported, with its prompts and its CLIP'
            )
    write_names(path, {key: np.concatenate([known[key], found[key][1:]]) for key in known})
    print(f'{path}: {len(names)} names added, {len(known["names"]) + len(names)} in all')


if __name__ == '__main__':
    main()
