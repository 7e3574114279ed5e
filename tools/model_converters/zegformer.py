"""Turn a checkpoint of the released ZegFormer into mmzeg's.

python tools/model_converters/zegformer.py SRC DST
"""

import argparse
import sys
from pathlib import Path

import torch

from mmzeg.utils.atomic import write_whole
from mmzeg.utils.released_names import convert_released
from mmzeg.utils.weight_files import read_state


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='released weights: .pth or .safetensors; no pickled code is run')
    parser.add_argument('target', type=Path, help='where to write them, as .pth')
    parser.add_argument('--overwrite', action='store_true', help='replace the target if it is there')
    args = parser.parse_args()
    try:
        if not args.source.is_file():
            raise FileNotFoundError(f'{args.source}: no such file')
        if args.target.exists() and not args.overwrite:
            raise FileExistsError(f'{args.target}: is there already; add --overwrite to replace it')
        try:
            weights = convert_released(read_state(args.source))
        except ValueError as error:
            raise ValueError(f'{args.source}: {error}') from error
    except (OSError, ValueError) as error:
        print(f'mmzeg: error: {error}', file=sys.stderr)
        return 2
    content = dict(state_dict=weights, meta=dict(source=args.source.name))
    write_whole(args.target, lambda path: torch.save(content, path))
    print(f'{args.target}: {len(weights)} tensors')
    return 0


if __name__ == '__main__':
    sys.exit(main())
