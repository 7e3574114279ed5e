"""Export a ZegFormer as ONNX graphs, with a runner that needs no PyTorch.

python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out FOLDER
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import DictAction

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment.onnx_export import RUNNER_PACKAGE, export, write_folder
from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments
from mmzeg.publishing.published_model import read_model_config
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parse_model_arguments(parser)


@one_line_errors
def main() -> None:
    args = parse_args()
    # Check what can be checked before the model is loaded
    missing = [name for name in ('onnx', 'onnxruntime') if find_spec(name) is None]
    if missing:
        raise ValueError(f'{" and ".join(missing)} not installed: pip install {" ".join(missing)}')
    if args.out.exists():
        raise FileExistsError(f'{args.out}: exists already; name a new folder')
    inferencer = ZeroShotInferencer(read_model_config(args.config, args.cfg_options), args.checkpoint, device='cpu')
    differences = write_folder(args.out, lambda folder: export(inferencer, folder))
    for name, difference in differences.items():
        size = (args.out / name).stat().st_size / 2**20
        print(f'{args.out / name}: {size:.0f} MiB, differs from PyTorch by {difference:.1e} at most')
    print(f'{args.out}: runs with NumPy, Pillow and onnxruntime: from {RUNNER_PACKAGE} import OnnxRunner')


if __name__ == '__main__':
    main()
