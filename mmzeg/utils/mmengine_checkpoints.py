"""MMEngine loads every checkpoint through ``mmzeg.utils.weight_files``: local files, URLs and object storage alike."""

import io
import tempfile
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch.hub import HASH_REGEX, download_url_to_file

from mmzeg.utils.weight_files import load_weight_file


class _TorchWithSafeLoad:
    """The module ``torch``, as MMEngine's checkpoint module sees it: ``load`` runs no code of a file."""

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)

    @staticmethod
    def load(file: str | Path | io.BytesIO, map_location: object = None, **_: object) -> dict:
        """Load a file, or the bytes of one from object storage, by ``load_weight_file``."""
        if not isinstance(file, io.BytesIO):
            return _load(file, map_location)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'checkpoint.pth')
            path.write_bytes(file.getbuffer())
            return _load(path, map_location)


def load_url(
    url: str, model_dir: str | None = None, map_location: object = None, progress: bool = True, **_: object
) -> dict:
    """Download a checkpoint into torch's cache, unless it is there, and load it by ``load_weight_file``.

    Raises:
        ConnectionError: The file cannot be downloaded; names the URL and where to put the file.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    path = folder / Path(urlparse(url).path).name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file_hash = HASH_REGEX.search(path.name)
        try:
            download_url_to_file(url, str(path), file_hash[1] if file_hash else None, progress)
        except (URLError, OSError) as error:
            raise ConnectionError(
                f'{url}: cannot be downloaded ({error}); download it on another machine and copy it to {path}, or set '
                'init_cfg=None or load_from=None'
            ) from error
    return _load(path, map_location)


def _load(path: str | Path, map_location: object) -> dict:
    """Load a weight file by ``load_weight_file``, without the text that MMEngine would run.

    When MMEngine's runner resumes, it runs ``meta['config']`` as a Python config, to compare numbers of GPUs. Its own
    checkpoints do not have this field; those of OpenMMLab 1.x do.
    """
    content = load_weight_file(path, map_location)
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


def use_safe_checkpoint_loading() -> None:
    """Let all of MMEngine's loaders (files, URLs, model zoos, object storage) read weights by ``load_weight_file``.

    MMEngine registers a loader per scheme, and each calls ``torch.load`` or ``load_url`` of its module. Both are
    replaced in that module only.
    """
    mmengine_checkpoint.torch = _TorchWithSafeLoad()
    mmengine_checkpoint.load_url = load_url
