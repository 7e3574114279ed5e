"""Publish a checkpoint: weights, config and results in one safetensors file that runs no code, and a model card.

python tools/model_converters/publish.py work_dirs/quickstart/iter_1000.pth published/zegformer_r18_world
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmzeg.publishing.publish import publish
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='checkpoint file')
    parser.add_argument(
        'out', help='FOLDER/, or path and name without suffix; the name gets the first digits of the SHA-256'
    )
    parser.add_argument('--config', help="config file, or its name in configs; defaults to the checkpoint's")
    parser.add_argument('--report', type=Path, help="report.json of tools/test.py; defaults to the checkpoint folder's")
    parser.add_argument('--license', default='unknown', help='licence of the weights, as hubs write it: apache-2.0')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing model card')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields of --config: key=value ...')
    add_trust_argument(parser)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.cfg_options and not args.config:
        raise ValueError('--cfg-options changes fields of --config: give one')
    config = read_config(args.config, args.cfg_options) if args.config else None
    published = publish(args.checkpoint, args.out, config, args.report, args.license, args.overwrite)
    size = published.path.stat().st_size / 2**20
    print(f'{published.path}: {size:.1f} MiB; segment with ZeroShotInferencer({str(published.path)!r})')
    print(f'{published.card}: the model card')


if __name__ == '__main__':
    main()
