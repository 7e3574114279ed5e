"""The argument of all tools that load weights."""

import argparse

from mmzeg.utils.trusted_files import trust_file


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-file FILE``, which takes effect while the arguments are parsed; see ``trust_file``."""
    parser.add_argument(
        '--trust-file',
        action=_TrustFile,
        metavar='FILE',
        help='run the code that is pickled in this file; may be repeated. By default such files are refused',
    )


class _TrustFile(argparse.Action):
    def __call__(self, parser: object, namespace: object, values: str, option_string: str | None = None) -> None:
        trust_file(values)
