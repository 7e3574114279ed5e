"""The files whose pickled code may run: none, unless the user names them."""

import os
from pathlib import Path

# Names files, separated by os.pathsep.
TRUST_VARIABLE = 'MMZEG_TRUSTED_FILES'


def trust_file(path: str | Path) -> None:
    """Let the code that is pickled in a file run, in this process and in those that it starts.

    Without this call such a file is refused. The environment variable ``MMZEG_TRUSTED_FILES`` has the same effect.
    """
    os.environ[TRUST_VARIABLE] = os.pathsep.join([*_trusted_names(), os.path.abspath(path)])


def is_trusted(path: Path) -> bool:
    """Return whether the code that is pickled in a file may run."""
    return any(Path(name).resolve() == path.resolve() for name in _trusted_names())


def trust_hint(path: Path) -> str:
    """Return the end of an error message about a file that was refused: how to trust it."""
    return f'nothing of it was run. If you trust this file, add --trust-file {path}, or set {TRUST_VARIABLE}={path}'


def _trusted_names() -> list[str]:
    return [name for name in os.environ.get(TRUST_VARIABLE, '').split(os.pathsep) if name]
