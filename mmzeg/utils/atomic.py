"""Atomic file writing: a file is complete, or does not exist."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it to ``path``: an interruption leaves no partial file.

    If several processes write the same path at once, the last one to finish wins.

    Args:
        path (Path): The file, in an existing folder.
        write (Callable): Writes the content to the path that it is given.
    """
    partial = path.with_name(f'{path.name}.{uuid.uuid4().hex}.part')
    try:
        write(partial)
        atomic_replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def atomic_replace(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target`` once its content is on the disk; an existing target is replaced."""
    with source.open('rb') as file:
        os.fsync(file.fileno())
    os.replace(source, target)


def write_json(path: Path, content: object) -> None:
    """Write an object as JSON, atomically; creates the folder if needed. NumPy's numbers become plain ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_text(json.dumps(content, indent=1, default=_plain_number)))


def _plain_number(value: object) -> int | float:
    # Metrics of mmseg are float32 with NumPy 2, which JSON does not take.
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f'Object of type {type(value).__name__} is not JSON serializable')
