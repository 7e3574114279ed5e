"""The manifest of a labelled folder: one JSON object an image and line, in parts while processes label."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mmzeg.labelling.storage import Storage

MANIFEST = 'manifest.jsonl'
PARTS = '.parts'
# Fields of every row, with the types of their values.
ROW_FIELDS = dict(
    file=str,
    width=(int, type(None)),
    height=(int, type(None)),
    sha1=(str, type(None)),
    pixels=dict,
    ignored=int,
    margins=dict,
    mean_score=(float, int, type(None)),
    seconds=(float, int),
    error=(str, type(None)),
)
# Rows that a process keeps before it writes them to a store, which cannot append to a file.
ROWS_PER_OBJECT = 64


class SavedRows(NamedTuple):
    """The rows that earlier processes wrote.

    Args:
        rows (dict[str, dict]): The latest row of every file.
        num_damaged (int): Lines that are no rows.
    """

    rows: dict[str, dict]
    num_damaged: int


def read_manifest(out: str | Path) -> list[dict]:
    """Read the manifest of a folder that ``tools/label.py`` wrote.

    Args:
        out (str | Path): The folder.

    Returns:
        list[dict]: One row an image, sorted by ``file``, the image's path below the folder of images. ``width`` and
        ``height`` in pixels, ``sha1`` of the file, ``pixels`` of every class in the label map, ``ignored`` pixels,
        ``margins`` (the mean margin of a class's pixels), ``mean_score`` (the mean margin of all pixels), ``seconds``
        of the network, and ``error``. An image with an ``error`` has no label map.

    Raises:
        FileNotFoundError: No manifest.
        ValueError: A line is no row; names it.
    """
    storage = Storage(out)
    path = storage.path(MANIFEST)
    if not storage.exists(MANIFEST):
        raise FileNotFoundError(f'{path}: no such manifest; tools/label.py writes it')
    rows = []
    for number, line in enumerate(storage.read(MANIFEST).splitlines(), 1):
        row = parse_row(line)
        if row is None:
            raise ValueError(f'{path}: line {number} is damaged; start tools/label.py again with the same arguments')
        rows.append(row)
    return rows


def parse_row(line: bytes) -> dict | None:
    """Return the row in a line; None if the line is no row, such as one that was written in part."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or row.keys() != ROW_FIELDS.keys():
        return None
    return row if all(isinstance(row[field], types) for field, types in ROW_FIELDS.items()) else None


def dump_rows(rows: Iterable[dict]) -> bytes:
    """Return rows as JSON Lines."""
    return b''.join(json.dumps(row).encode() + b'\n' for row in rows)


def write_manifest(storage: Storage, rows: Mapping[str, dict]) -> None:
    """Write the manifest, sorted by file, in place of the parts."""
    storage.write(MANIFEST, dump_rows(rows[file] for file in sorted(rows)))
    for name in _part_names(storage):
        storage.remove(name)


def read_saved_rows(storage: Storage) -> SavedRows:
    """Read the rows of the manifest and of its parts, without lines that are damaged."""
    rows = {}
    num_damaged = 0
    # A part may have a newer row of an image whose row in the manifest is an error.
    names = [MANIFEST] if storage.exists(MANIFEST) else []
    for name in [*names, *_part_names(storage)]:
        for line in storage.read(name).splitlines():
            row = parse_row(line)
            if row is None:
                num_damaged += 1
            else:
                rows[row['file']] = row
    return SavedRows(rows, num_damaged)


def _part_names(storage: Storage) -> list[str]:
    return sorted(f'{PARTS}/{name}' for name in storage.list_files(PARTS) if name.endswith('.jsonl'))


class ManifestPart:
    """The rows that one process writes; every row is on the disk, or in the store, as a complete line.

    On a local disk they are appended to ``.parts/RANK.jsonl``. In a store every ``ROWS_PER_OBJECT`` rows are an object.

    Args:
        storage (Storage): The output folder.
        rank (int): Number of the process.
    """

    def __init__(self, storage: Storage, rank: int) -> None:
        self._storage = storage
        self._rank = rank
        self._rows: list[dict] = []
        self._num_objects = 0
        self._file = None
        if storage.is_local:
            path = Path(storage.path(f'{PARTS}/{rank}.jsonl'))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._path = str(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, 'O_BINARY', 0), 0o666)

    def append(self, row: dict) -> None:
        """Add a row.

        Raises:
            OSError: It cannot be written; then nothing of it is.
        """
        if self._file is None:
            self._rows.append(row)
            if len(self._rows) >= ROWS_PER_OBJECT:
                self._write_object()
            return
        line = dump_rows([row])
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, size)
            raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        elif self._rows:
            self._write_object()

    def _write_object(self) -> None:
        # Earlier parts are in the manifest, so that their names are free.
        self._storage.write(f'{PARTS}/{self._rank}-{self._num_objects:06d}.jsonl', dump_rows(self._rows))
        self._num_objects += 1
        self._rows = []
