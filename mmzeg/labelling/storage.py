"""A folder on a disk or in an object store, through MMEngine's file backends."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine import fileio
from mmengine.fileio.backends import LocalBackend

from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.error_messages import one_line

# Temporary names of ``atomic_write``; a killed process leaves such files.
PARTIAL_NAME = re.compile(r'\.[0-9a-f]{32}\.part$')


class Storage:
    """A folder of files, each named by its path below the folder: ``SUB/NAME.png``.

    Args:
        root (str | Path): A folder of a local disk, or with the prefix of one of MMEngine's backends: ``s3://bucket/a``.

    Raises:
        ValueError: No backend has this prefix.
    """

    def __init__(self, root: str | Path) -> None:
        try:
            self._backend = fileio.get_file_backend(str(root), enable_singleton=True)
        except KeyError as error:
            raise ValueError(
                f'{root}: MMEngine has no file backend for {error}: register one by mmengine.fileio.register_backend'
            ) from error
        self.is_local = isinstance(self._backend, LocalBackend)
        self.root = os.path.abspath(root) if self.is_local else str(root).rstrip('/')

    def __str__(self) -> str:
        return self.root

    def path(self, name: str) -> str:
        """Return the complete path of a file."""
        return f'{self.root}/{name}'

    def read(self, name: str) -> bytes:
        """Return the content of a file; FileNotFoundError of a local disk if there is none."""
        return self._backend.get(self.path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file: it is complete, or does not exist.

        Raises:
            OSError: It cannot be written; names the file.
        """
        path = self.path(name)
        if not self.is_local:
            # A store has an object as soon as all of it arrived. Its client may raise anything.
            try:
                self._backend.put(content, path)
            except Exception as error:
                raise OSError(f'{path}: cannot be written ({one_line(error)})') from error
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            atomic_write(Path(path), lambda partial: partial.write_bytes(content))
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return self._backend.isfile(self.path(name))

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._backend.remove(self.path(name))

    def list_files(self, folder: str = '') -> Iterator[str]:
        """Yield the names of all files below a folder, relative to it; of none if there is no such folder."""
        path = self.path(folder) if folder else self.root
        if not self._backend.isdir(path):
            return
        for name in self._backend.list_dir_or_file(path, list_dir=False, recursive=True):
            yield Path(name).as_posix()

    def remove_partial_files(self, *folders: str) -> None:
        """Remove what a killed process left half written in this folder and below the named ones; stores have none."""
        if not self.is_local:
            return
        names = [f'{folder}/{name}' for folder in folders for name in self.list_files(folder)]
        for name in [*names, *map(str, self._backend.list_dir_or_file(self.root, list_dir=False))]:
            if PARTIAL_NAME.search(name):
                self.remove(name)
