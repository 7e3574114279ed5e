"""Frozen CLIP, loaded when first asked and shared by all who name the same weights."""

import logging
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmzeg.class_names import split_synonyms
from mmzeg.clip.loading import sidecar_config, file_config, load_clip, model_config, statistics, weight_path
from mmzeg.clip.prompts import get_templates
from mmzeg.clip.fast_encoders import encode_image, encode_text
from mmzeg.clip.text_cache import TextCache, content_hash, file_version
from mmzeg.registry import MODELS
from mmzeg.utils.weight_files import read_state

PRECISIONS = {'auto': None, 'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
TEXTS_AT_ONCE = 256
_LOADED: dict[tuple, nn.Module] = {}
_LOCK = threading.RLock()
_doubted: set[str] = set()


@MODELS.register_module()
class CLIP:
    """A CLIP of open_clip. Not a module: never in a checkpoint, never trained or moved by the runner.

    Making one reads no weight and needs no network.

    Args:
        pretrained (str): Hub tag or local file.
        model (str, optional): open_clip's architecture. None: of the hub's open_clip_config.json beside the local file,
            else read from its shapes, in OpenAI's names.
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
        path = Path(pretrained)
        if path.is_file():
            self._weights: tuple = file_version(path)
            if model is None and sidecar_config(path).is_file():
                self._weights += file_version(sidecar_config(path))
        elif model is None:
            raise FileNotFoundError(f'{pretrained}: no such CLIP file; a hub tag needs the architecture as model too')
        else:
            statistics(model, pretrained)
            self._weights = (pretrained,)
        self.pretrained, self.model, self.precision = str(pretrained), model, precision
        self._cache = TextCache(cache_dir)
        self._embeddings: dict[tuple, Tensor] = {}

    @property
    def config(self) -> dict:
        """open_clip's model configuration, found without making the model."""
        if self.model is None:
            return _file_config(self._weights)
        return model_config(self.model, self.pretrained)

    @property
    def embed_dim(self) -> int:
        """Width d of the joint space."""
        return self.config['embed_dim']

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image encoder's input, in pixels."""
        size = open_clip.CLIPVisionCfg(**self.config['vision_cfg']).image_size
        return tuple(size) if isinstance(size, (tuple, list)) else (size, size)

    @property
    def image_mean(self) -> tuple[float, ...]:
        """Mean of the input, RGB in 0..1."""
        return statistics(self.model, self.pretrained)[0]

    @property
    def image_std(self) -> tuple[float, ...]:
        """Standard deviation of the input, RGB in 0..1."""
        return statistics(self.model, self.pretrained)[1]

    @property
    def context_length(self) -> int:
        """Tokens a text may have."""
        return open_clip.CLIPTextCfg(**self.config['text_cfg']).context_length

    @property
    def is_loaded(self) -> bool:
        """Whether these weights are in memory."""
        return bool(self._loaded())

    @property
    def network(self) -> nn.Module:
        """The open_clip model as it was first loaded, or loaded now onto the CPU; shared in this process."""
        loaded = self._loaded()
        return loaded[0] if loaded else self._on(torch.device('cpu'), PRECISIONS[self.precision] or torch.float32)

    @property
    def logit_scale(self) -> float:
        """Factor of the cosine, exponentiated."""
        return self.network.logit_scale.exp().item()

    @property
    def logit_bias(self) -> float | None:
        """What SigLIP adds to the scaled cosine; None for others."""
        bias = getattr(self.network, 'logit_bias', None)
        return None if bias is None else bias.item()

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, d) float32 embeddings, not normalised, of (N, 3, h, w) images that have CLIP's mean and deviation."""
        with self.on(images.device) as network:
            return encode_image(network, images.to(self.dtype_on(images.device))).float()

    @contextmanager
    def on(self, device: torch.device) -> Iterator[nn.Module]:
        """The open_clip model on a device, in this CLIP's precision; inside, neither gradients nor autocast."""
        with _exact(device):
            yield self._on(device, self.dtype_on(device))

    def encode_text(self, texts: Sequence[str], device: str | torch.device = 'cpu') -> Tensor:
        """(N, d) float32 embeddings, not normalised, of N texts."""
        device = torch.device(device)
        tokens = _tokenizer(self.model, self.context_length)(list(texts))
        with self.on(device) as network:
            parts = [encode_text(network, part.to(device)) for part in tokens.split(TEXTS_AT_ONCE)]
            return torch.cat(parts).float()

    def text_embeddings(
        self, names: Sequence[str], prompts: str | Sequence[str], device: str | torch.device = 'cpu'
    ) -> Tensor:
        """(C, d) unit embeddings, float32 on the CPU (reference, step 6), kept on disk.

        Every synonym of a name through every template, each normalised, averaged, normalised again. Of names that
        OpenAI's tokenizer cuts off, or that are not in Latin letters, a warning is logged, once for each.

        Args:
            names (list[str]): C class names.
            prompts (str | list[str]): Prompt set, or templates.
            device (str | torch.device): Where to compute what is not kept yet.
        """
        templates, device = get_templates(prompts), torch.device(device)
        dtype = self.dtype_on(device)
        asked = (tuple(names), tuple(templates), dtype)
        if asked not in self._embeddings:
            self._doubt(names, templates)
            # By the type computed in, not the one asked for: `auto` differs between machines that share a cache.
            key = dict(clip=self.fingerprint(), dtype=str(dtype), templates=templates, names=list(names))
            shape = (len(names), self.embed_dim)
            with _exact(device):
                found = self._cache.fetch(key, shape, lambda: self._embed(names, templates, device))
            if len(self._embeddings) >= 8:
                self._embeddings.pop(next(iter(self._embeddings)))
            self._embeddings[asked] = found
        return self._embeddings[asked]

    def _doubt(self, names: Sequence[str], templates: list[str]) -> None:
        """Warn, in every process once, of names that this CLIP cannot read, or not to their end."""
        if self.config['text_cfg'].get('hf_tokenizer_name'):
            return  # of another tokenizer: it may be multilingual, and kept embeddings must not need it
        limit, longest = self.context_length - 2, max(templates, key=len)
        for name in names:
            if name in _doubted:
                continue
            for word in split_synonyms(name):
                text = longest.replace('{}', word)
                # A token is at least a byte: most names need not be tokenized.
                if len(text.encode(errors='replace')) > limit:
                    count = len(_tokenizer(self.model, self.context_length).encode(text))
                    if count > limit:
                        _doubt(name, f'{count} tokens with its prompt, and CLIP reads the first {limit}: shorten it')
            if any(not _is_latin(letter) for letter in name):
                _doubt(name, 'not all Latin letters, and this CLIP knows English: expect wrong masks, or translate it')

    def _embed(self, names: Sequence[str], templates: list[str], device: torch.device) -> Tensor:
        texts = [[t.replace('{}', word) for word in split_synonyms(name) for t in templates] for name in names]
        found = F.normalize(self.encode_text([text for group in texts for text in group], device), dim=-1)
        means = torch.stack([part.mean(0) for part in found.split([len(group) for group in texts])])
        if not torch.isfinite(means).all():
            raise ValueError(
                f"{self.pretrained}: CLIP's text embeddings are not finite: its weights are damaged, or half precision "
                "is too narrow for them (precision='fp32')"
            )
        return F.normalize(means, dim=-1).cpu()

    def fetch(self) -> None:
        """Have the weights on this machine without loading them; ConnectionError where a hub is out of reach."""
        weight_path(self.model, self.pretrained)

    def fingerprint(self) -> str:
        """What the weights are: the content hash of a file, or architecture and tag of a hub's."""
        path = Path(self.pretrained)
        if not path.is_file():
            return f'{self.model}:{self.pretrained}'
        beside = sidecar_config(path)
        files = [path, beside] if self.model is None and beside.is_file() else [path]
        return ':'.join([str(self.model), *map(content_hash, files)])

    def _loaded(self) -> list[nn.Module]:
        with _LOCK:
            return [network for key, network in _LOADED.items() if key[:2] == (self.model, self._weights)]

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """What pictures and matrix products are in on a device; ValueError where it has no such type."""
        dtype = PRECISIONS[self.precision]
        if dtype == torch.float16 and device.type == 'cpu':
            raise ValueError("CLIP precision 'fp16' needs a GPU: use 'auto', 'fp32' or 'bf16' on the CPU")
        return dtype or (torch.float16 if device.type == 'cuda' else torch.float32)

    def _on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        # One copy a type: weights once rounded to half cannot serve someone who asks for float32. And one a device:
        # another thread may be asking there. "cuda" is one of "cuda:0", "cuda:1", ...
        key = (self.model, self._weights, dtype, torch.empty(0, device=device).device)
        with _LOCK:
            if key not in _LOADED:
                _LOADED[key] = load_clip(self.model, self.pretrained, device, dtype)
            return _LOADED[key]


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Neither gradients nor autocast; nor inference tensors, which a later training step could not use."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _is_latin(letter: str) -> bool:
    """Whether it is no letter of another script, and no picture such as an emoji."""
    if letter.isascii():
        return True
    foreign = letter.isalpha() and 'LATIN' not in unicodedata.name(letter, '')
    return not foreign and unicodedata.category(letter) != 'So'


def _doubt(name: str, reason: str) -> None:
    _doubted.add(name)
    shown = name if len(name) <= 40 else f'{name[:37]}...'
    print_log(f'class {shown!r}: {reason}', 'current', logging.WARNING)


@lru_cache
def _tokenizer(model: str | None, context_length: int) -> Callable[[list[str]], Tensor]:
    if model is None:
        return open_clip.SimpleTokenizer(context_length=context_length)
    try:
        return open_clip.get_tokenizer(model, context_length=context_length)
    except (ImportError, OSError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ValueError(
            f"{model}'s tokenizer needs the package transformers and its hub files ({reason}): "
            'pip install transformers sentencepiece, and fetch them once where the hub is in reach'
        ) from error


@lru_cache
def _file_config(version: tuple) -> dict:
    path = Path(version[0])
    return file_config(read_state(path), path)
