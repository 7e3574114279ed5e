"""The command-line program shared by the tools that convert other code's weights."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument
from mmzeg.utils.weight_files import check_finite


@one_line_errors
def convert_file(doc: str, read: Callable[[Path], dict], convert: Callable[[dict], dict[str, Tensor]]) -> None:
    """Run a converter as a program: arguments ``source``, ``target`` and ``--overwrite``.

    Args:
        doc (str): The tool's docstring; its first line is the description.
        read (Callable): Reads the source without running pickled code; names the file in errors.
        convert (Callable): Turns its content into a state dict in mmzeg's names; its ValueError gets the file's name.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('source', type=Path, help='weights of the other code; no pickled code is run')
    parser.add_argument('target', type=Path, help='where to write the converted weights, as .pth')
    add_trust_argument(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace an existing target')
    args = parser.parse_args()
    # Check the paths.
    if not args.source.is_file():
        raise FileNotFoundError(f'{args.source}: no such file')
    if args.target.exists() and not args.overwrite:
        raise FileExistsError(f'{args.target}: exists already; add --overwrite to replace it')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    # Convert.
    content = read(args.source)
    try:
        weights = convert(content)
    except ValueError as error:
        raise ValueError(f'{args.source}: {error}') from error
    check_finite(args.source, weights)
    # Write the state dict.
    checkpoint = dict(state_dict=weights, meta=dict(source=args.source.name))
    atomic_write(args.target, lambda path: torch.save(checkpoint, path))
    print(f'{args.target}: {len(weights)} tensors')
