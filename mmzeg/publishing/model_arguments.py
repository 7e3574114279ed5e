"""Arguments of the tools that segment images: config and checkpoint, or a published model in place of both."""

import argparse
from collections.abc import Sequence

from mmzeg.publishing.published_model import is_published_model
from mmzeg.utils.tool_arguments import add_trust_argument


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``checkpoint``, or a published model in place of both; parse by ``parse_model_arguments``."""
    parser.add_argument(
        'config', help='config file, or its name in configs; or a published model (.safetensors), without checkpoint'
    )
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; "none" for masks from files')
    add_trust_argument(parser)


def parse_model_arguments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, inputs: str | None = None
) -> argparse.Namespace:
    """Parse the arguments of a parser with ``add_model_arguments``.

    Args:
        parser (ArgumentParser): A parser; its errors end the program.
        arguments (Sequence[str], optional): Defaults to those of the program.
        inputs (str, optional): The argument with ``nargs='+'`` that follows ``checkpoint``, if there is one.
    """
    # Flags may stand between positional arguments, one of which is optional.
    args = parser.parse_intermixed_args(arguments)
    if not is_published_model(args.config):
        if args.checkpoint is None:
            parser.error('the following arguments are required: checkpoint')
    elif args.checkpoint is not None:
        if inputs is None:
            parser.error(f'{args.config} holds its weights: leave out {args.checkpoint}')
        # What follows a published model are inputs.
        setattr(args, inputs, [args.checkpoint, *getattr(args, inputs)])
        args.checkpoint = None
    return args
