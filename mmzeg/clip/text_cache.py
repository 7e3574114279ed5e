"""A cache of text embeddings on disk: one file for each key, complete or absent."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmzeg.utils.atomic import atomic_write

_warned: set[Path] = set()
_digests: dict[tuple, str] = {}


def file_version(path: Path) -> tuple[str, int, int, int]:
    """Return what changes when a file is rewritten: path, inode, size in bytes, time of change in ns."""
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, computed once for each version of the file."""
    version = file_version(path)
    if version not in _digests:
        digest = hashlib.sha256()
        with path.open('rb') as file:
            while block := file.read(1 << 22):
                digest.update(block)
        _digests[version] = digest.hexdigest()
    return _digests[version]


class TextCache:
    """Store text embeddings in a folder, which several processes may fill at once.

    Args:
        folder (str, optional): Defaults to $MMZEG_CACHE, else ~/.cache/mmzeg. Created at the first write; if it cannot
            be written, a warning is logged once and nothing is cached.
    """

    def __init__(self, folder: str | None = None) -> None:
        folder = folder or os.environ.get('MMZEG_CACHE') or '~/.cache/mmzeg'
        self.folder = Path(os.path.expanduser(folder))

    def fetch(self, key: dict, shape: tuple[int, int], compute: Callable[[], Tensor]) -> Tensor:
        """Return the cached float32 embeddings of ``key``; compute and cache them if they are missing or corrupted.

        Args:
            key (dict): Everything that decides the embeddings, as JSON can hold it.
            shape (tuple[int, int]): Their shape (C, d).
            compute (Callable): Computes them.
        """
        text = json.dumps(key, sort_keys=True)
        path = self.folder / f'{hashlib.sha256(text.encode()).hexdigest()}.safetensors'
        embeddings = self._read(path, shape)
        if embeddings is None:
            embeddings = compute()
            self._write(path, embeddings)
        return embeddings

    @staticmethod
    def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
        if not os.path.exists(path):
            return None
        try:
            with safe_open(path, 'pt') as file:
                embeddings = file.get_tensor('embeddings').clone()
                metadata = file.metadata() or {}
            is_valid = embeddings.shape == shape and metadata.get('sha256') == _checksum(embeddings)
        except (SafetensorError, OSError):
            is_valid = False
        if not is_valid:
            print_log(f'{path}: truncated or corrupted; text embeddings are computed again', 'current', logging.WARNING)
            return None
        return embeddings

    def _write(self, path: Path, embeddings: Tensor) -> None:
        metadata = {'sha256': _checksum(embeddings)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Atomically: a reader sees a complete file, and two writers cannot mix.
            atomic_write(path, lambda partial: save_file({'embeddings': embeddings}, partial, metadata=metadata))
        except (OSError, SafetensorError) as error:
            if self.folder in _warned:
                return
            _warned.add(self.folder)
            reason = str(error).split('\n')[0]
            print_log(
                f'{self.folder}: text embeddings cannot be cached there ({reason}); set MMZEG_CACHE to a folder that '
                'can be written',
                'current',
                logging.WARNING,
            )


def _checksum(embeddings: Tensor) -> str:
    return hashlib.sha256(embeddings.to(torch.float32).contiguous().numpy().tobytes()).hexdigest()
