"""Frozen CLIP, loaded when first asked and shared by all who name the same weights."""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmzeg.clip.loading import load_clip, openai_config
from mmzeg.clip.prompts import get_templates
from mmzeg.registry import MODELS
from mmzeg.utils.weight_files import read_state

PRECISIONS = {'auto': None, 'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_LOADED: dict[tuple, nn.Module] = {}
_LOCK = threading.Lock()


@MODELS.register_module()
class CLIP:
    """A CLIP of open_clip. Not a module: never in a checkpoint, never trained or moved by the runner.

    Making one reads no weight and needs no network.

    Args:
        model (str, optional): open_clip's architecture. None: read from the local file, in OpenAI's names.
        pretrained (str): Hub tag or local file.
        precision (str): ``auto`` (half on CUDA, single on the CPU, as the released code), ``fp32``, ``fp16``, ``bf16``.
        cache_dir (str, optional): Where text embeddings are kept. Defaults to $MMZEG_CACHE, else ~/.cache/mmzeg.
    """

    def __init__(
        self, pretrained: str, model: str | None = None, precision: str = 'auto', cache_dir: str | None = None
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f'CLIP precision {precision!r} is unknown: use one of {", ".join(PRECISIONS)}')
        if model is not None and model not in open_clip.list_models():
            raise ValueError(f'CLIP model {model!r} is no open_clip architecture; see open_clip.list_models()')
        if model is None and not Path(pretrained).is_file():
            raise FileNotFoundError(f'{pretrained}: no such CLIP file; a hub tag needs the architecture as model too')
        self.pretrained, self.model, self.precision = str(pretrained), model, precision
        self.cache_dir = Path(cache_dir or os.environ.get('MMZEG_CACHE') or Path.home() / '.cache' / 'mmzeg')

    @property
    def config(self) -> dict:
        """open_clip's model configuration, found without making the model."""
        if self.model is None:
            return _file_config(Path(self.pretrained))
        return open_clip.get_model_config(self.model)

    @property
    def embed_dim(self) -> int:
        """Width d of the joint space."""
        return self.config['embed_dim']

    @property
    def is_loaded(self) -> bool:
        """Whether these weights are in memory."""
        return self._key in _LOADED

    @property
    def network(self) -> nn.Module:
        """The open_clip model, loaded at the first call; shared in this process."""
        with _LOCK:
            if self._key not in _LOADED:
                _LOADED[self._key] = load_clip(self.model, self.pretrained)
        return _LOADED[self._key]

    @property
    def _key(self) -> tuple:
        # By precision too: weights once rounded to half cannot serve someone who asked for float32.
        return self.model, self.pretrained, self.precision

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image encoder's input, in pixels."""
        size = self.network.visual.image_size
        return tuple(size) if isinstance(size, (tuple, list)) else (size, size)

    @property
    def image_mean(self) -> tuple[float, ...]:
        """Mean of the input, RGB in 0..1."""
        return tuple(open_clip.get_model_preprocess_cfg(self.network)['mean'])

    @property
    def image_std(self) -> tuple[float, ...]:
        """Standard deviation of the input, RGB in 0..1."""
        return tuple(open_clip.get_model_preprocess_cfg(self.network)['std'])

    @property
    def context_length(self) -> int:
        """Tokens a text may have."""
        return self.config['text_cfg'].get('context_length', 77)

    @property
    def logit_scale(self) -> float:
        """Factor of the cosine, exponentiated."""
        return self.network.logit_scale.exp().item()

    @property
    def logit_bias(self) -> float | None:
        """What SigLIP adds to the scaled cosine; None for others."""
        bias = getattr(self.network, 'logit_bias', None)
        return None if bias is None else bias.item()

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """(N, d) float32 embeddings, not normalised, of (N, 3, h, w) images that have CLIP's mean and deviation."""
        network, dtype = self._on(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return network.encode_image(images.to(dtype)).float()

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], device: str | torch.device = 'cpu') -> Tensor:
        """(N, d) float32 embeddings, not normalised, of N texts."""
        network, _ = self._on(torch.device(device))
        tokens = self._tokenizer()(list(texts)).to(device)
        with torch.autocast(torch.device(device).type, enabled=False):
            return torch.cat([network.encode_text(part).float() for part in tokens.split(256)])

    def text_embeddings(self, names: Sequence[str], prompts: str | Sequence[str]) -> Tensor:
        """(C, d) unit embeddings, float32 on the CPU (reference, step 6), kept on disk.

        Every synonym of a name through every template, each normalised, averaged, normalised again.
        """
        templates = get_templates(prompts)
        what = dict(clip=self.fingerprint(), precision=self.precision, templates=templates, names=list(names))
        path = self.cache_dir / f'{hashlib.sha256(json.dumps(what).encode()).hexdigest()}.safetensors'
        found = _read_cache(path, (len(names), self.embed_dim))
        if found is None:
            found = torch.stack([self._embed(name, templates) for name in names])
            _write_cache(path, found)
        return found

    def _embed(self, name: str, templates: list[str]) -> Tensor:
        texts = [template.format(word) for word in name.split(', ') for template in templates]
        device = next(self.network.parameters()).device
        return F.normalize(F.normalize(self.encode_text(texts, device), dim=-1).mean(0), dim=0).cpu()

    def fingerprint(self) -> str:
        """What the weights are: the content hash of a file, or architecture and tag of a hub's."""
        path = Path(self.pretrained)
        if not path.is_file():
            return f'{self.model}:{self.pretrained}'
        stat = path.stat()
        return f'{self.model}:{_content_hash(path, stat.st_size, stat.st_mtime_ns)}'

    def _on(self, device: torch.device) -> tuple[nn.Module, torch.dtype]:
        dtype = PRECISIONS[self.precision] or (torch.float16 if device.type == 'cuda' else torch.float32)
        parameter = next(self.network.parameters())
        if dtype == torch.float32 != parameter.dtype:
            # `auto`, back from CUDA: half-precision weights would stay rounded.
            _LOADED.pop(self._key)
        if parameter.device != device or parameter.dtype != dtype:
            self.network.to(device, dtype)
        return self.network, dtype

    def _tokenizer(self) -> Callable[[list[str]], Tensor]:
        if self.model is None:
            return open_clip.SimpleTokenizer(context_length=self.context_length)
        try:
            return open_clip.get_tokenizer(self.model)
        except (ImportError, OSError) as error:
            raise ValueError(
                f"{self.model}'s tokenizer needs the package transformers and its hub files ({error}): "
                'pip install transformers sentencepiece, and fetch them once where the hub is in reach'
            ) from error


@lru_cache
def _file_config(path: Path) -> dict:
    return openai_config(read_state(path), path)


@lru_cache
def _content_hash(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _read_cache(path: Path, shape: tuple[int, int]) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        found = load_file(path)['embeddings']
    except (SafetensorError, KeyError, OSError):
        found = None
    if found is None or found.shape != shape or not torch.isfinite(found).all():
        print_log(f'{path}: text embeddings are cut off or damaged and are made again', 'current', 30)
        return None
    return found


def _write_cache(path: Path, embeddings: Tensor) -> None:
    """Whole or not at all: a temporary file takes the name last, so two writers cannot mix."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix='.tmp')
        os.close(handle)
        save_file({'embeddings': embeddings.contiguous()}, name)
        os.replace(name, path)
    except OSError as error:
        print_log(f'{path.parent}: text embeddings cannot be kept there ({error}); set MMZEG_CACHE', 'current', 30)
