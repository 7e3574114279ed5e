"""Text embeddings on disk: one file a key, whole or not at all."""

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
    """What changes when a file is written anew: path, inode, size in bytes, time in ns."""
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, computed once for each version of the file."""
    version = file_version(path)
    if version not in _digests:
        digest = hashlib.sha256()
        with path.open('rb') as file:
            while block := file.read(1 << 22):
                digest.update(block)
        _digests[version] = digest.hexdigest()
    return _digests[version]


class TextCache:
    """A folder of text embeddings, which several processes may fill at once.

    Args:
        folder (str, optional): Defaults to $MMZEG_CACHE, else ~/.cache/mmzeg. Made when first written to; where it
            cannot be, a warning is logged once and nothing is kept.
    """

    def __init__(self, folder: str | None = None) -> None:
        folder = folder or os.environ.get('MMZEG_CACHE') or '~/.cache/mmzeg'
        self.folder = Path(os.path.expanduser(folder))

    def fetch(self, key: dict, shape: tuple[int, int], compute: Callable[[], Tensor]) -> Tensor:
        """The float32 embeddings of ``shape`` kept under ``key``, else computed and kept."""
        text = json.dumps(key, sort_keys=True)
        path = self.folder / f'{hashlib.sha256(text.encode()).hexdigest()}.safetensors'
        found = self._read(path, shape)
        if found is None:
            found = compute()
            self._write(path, found)
        return found

    @staticmethod
    def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
        if not os.path.exists(path):
            return None
        try:
            with safe_open(path, 'pt') as file:
                found, metadata = file.get_tensor('embeddings').clone(), file.metadata() or {}
            whole = found.shape == shape and metadata.get('sha256') == _checksum(found)
        except (SafetensorError, OSError):
            whole = False
        if not whole:
            print_log(f'{path}: text embeddings are cut off or damaged and are made again', 'current', logging.WARNING)
            return None
        return found

    def _write(self, path: Path, embeddings: Tensor) -> None:
        # A temporary file takes the name last, so readers see all of it and two writers cannot mix.
        metadata = {'sha256': _checksum(embeddings)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, lambda partial: save_file({'embeddings': embeddings}, partial, metadata=metadata))
        except (OSError, SafetensorError) as error:
            if self.folder not in _warned:
                _warned.add(self.folder)
                reason = str(error).split('\n')[0]
                print_log(
                    f'{self.folder}: text embeddings cannot be kept there ({reason}); set MMZEG_CACHE to a folder that '
                    'can be written',
                    'current',
                    logging.WARNING,
                )


def _checksum(embeddings: Tensor) -> str:
    return hashlib.sha256(embeddings.to(torch.float32).contiguous().numpy().tobytes()).hexdigest()
