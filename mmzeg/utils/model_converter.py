"""What the tools share that turn weights of other code into ours."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors


@one_line_errors
def convert_file(doc: str, read: Callable[[Path], dict], convert: Callable[[dict], dict[str, Tensor]]) -> None:
    """The main of a tool that is called with a source, a target and perhaps ``--overwrite``.

    Args:
        doc (str): The tool's docstring; its first line says what it does.
        read (Callable): From the source what is in it, without running what is pickled there; names the file in errors.
        convert (Callable): From that a state dict in our names; its ValueError is given the file's name.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('source', type=Path, help='weights of the other code; no pickled code is run')
    parser.add_argument('target', type=Path, help='where to write ours, as .pth')
    parser.add_argument('--overwrite', action='store_true', help='replace the target if it is there')
    args = parser.parse_args()
    if not args.source.is_file():
        raise FileNotFoundError(f'{args.source}: no such file')
    if args.target.exists() and not args.overwrite:
        raise FileExistsError(f'{args.target}: is there already; add --overwrite to replace it')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    found = read(args.source)
    try:
        weights = convert(found)
    except ValueError as error:
        raise ValueError(f'{args.source}: {error}') from error
    content = dict(state_dict=weights, meta=dict(source=args.source.name))
    atomic_write(args.target, lambda path: torch.save(content, path))
    print(f'{args.target}: {len(weights)} tensors')
