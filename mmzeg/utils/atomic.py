"""Files that are whole or not there."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` fill a file beside ``path``, then rename it: a stop at any moment leaves no half file.

    Of several who write the same path at once the last one's stays.
    """
    partial = path.with_name(f'{path.name}.{uuid.uuid4().hex}.part')
    try:
        write(partial)
        replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """Rename a file once its content is on the disk; what was at ``target`` goes at that moment."""
    with source.open('rb') as file:
        os.fsync(file.fileno())
    os.replace(source, target)
