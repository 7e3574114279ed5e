"""A frozen CLIP: loaded on first use, shared by all components that name the same weights."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmzeg.class_names import split_synonyms
from mmzeg.clip.fast_encoders import encode_image, encode_text
from mmzeg.clip.feature_maps import feature_maps, map_channels
from mmzeg.clip.loading import file_config, load_clip, model_config, sidecar_config, statistics, weight_path
from mmzeg.clip.prompts import get_templates
from mmzeg.clip.text_cache import TextCache, content_hash, file_version
from mmzeg.clip.tokenizer import get_tokenizer, warn_unreadable_names
from mmzeg.registry import MODELS
from mmzeg.utils.compiled_functions import compile_function
from mmzeg.utils.half_precision import lacks_precision
from mmzeg.utils.weight_files import read_state

PRECISIONS = {'auto': None, 'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
TEXT_BATCH_SIZE = 256
# Values that a vision transformer's block keeps for each channel of each token; and other encoders for each pixel.
VALUES_PER_CHANNEL = 16
VALUES_PER_PIXEL = 128
MAX_KEPT_EMBEDDINGS = 8
_LOADED: dict[tuple, nn.Module] = {}
_LOCK = threading.RLock()


@MODELS.register_module()
class CLIP:
    """Encode images and class names with an open_clip model.

    It is not a module: it is in no checkpoint, and the runner neither trains nor moves it. The constructor reads no
    weights and needs no network.

    Args:
        pretrained (str): Tag of the model hub, or local file.
        model (str, optional): Name of open_clip's architecture. None: the open_clip_config.json next to the local file
            says it, else the shapes of weights in OpenAI's names.
        precision (str): ``fp32``, ``fp16``, ``bf16``, or ``auto``: half on CUDA, as the released code; single on a CPU,
            and on a GPU that has no half.
        cache_dir (str, optional): Folder of cached text embeddings. Defaults to $MMZEG_CACHE, else ~/.cache/mmzeg.

    Raises:
        FileNotFoundError: ``pretrained`` is neither a file nor a tag of the architecture.
        ValueError: Unknown precision or architecture.
    """

    def __init__(
        self, pretrained: str, model: str | None = None, precision: str = 'auto', cache_dir: str | None = None
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f'CLIP precision {precision!r} is unknown: use one of {", ".join(PRECISIONS)}')
        if model is not None and model not in open_clip.list_models():
            raise ValueError(f'CLIP model {model!r} is no open_clip architecture; see open_clip.list_models()')
        path = Path(pretrained)
        # Identify the weights: versions of the files, or the tag.
        if path.is_file():
            self._weights: tuple = file_version(path)
            if model is None and sidecar_config(path).is_file():
                self._weights += file_version(sidecar_config(path))
        elif model is None:
            raise FileNotFoundError(f'{pretrained}: no such CLIP file; a hub tag needs the architecture as model too')
        else:
            statistics(model, pretrained)  # refuses an unknown tag
            self._weights = (pretrained,)
        self.pretrained = str(pretrained)
        self.model = model
        self.precision = precision
        self._cache = TextCache(cache_dir)
        self._embeddings: dict[tuple, Tensor] = {}
        self._encode_image = encode_image

    @property
    def config(self) -> dict:
        """open_clip's model configuration, without building the model."""
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
        """Maximum number of tokens in a text."""
        return open_clip.CLIPTextCfg(**self.config['text_cfg']).context_length

    @property
    def is_loaded(self) -> bool:
        """Whether these weights are in memory."""
        return bool(self._loaded_networks())

    @property
    def network(self) -> nn.Module:
        """The first loaded copy of the open_clip model, else a copy loaded now onto the CPU; shared in the process."""
        networks = self._loaded_networks()
        if networks:
            return networks[0]
        return self._load(torch.device('cpu'), PRECISIONS[self.precision] or torch.float32)

    @cached_property
    def logit_scale(self) -> float:
        """Factor of the cosine similarity (the exponential of the stored parameter)."""
        return self.network.logit_scale.exp().item()

    @cached_property
    def logit_bias(self) -> float | None:
        """SigLIP's addend to the scaled cosine similarity; None for other models."""
        bias = getattr(self.network, 'logit_bias', None)
        return None if bias is None else bias.item()

    def activation_bytes(self, device: torch.device) -> int:
        """Return an estimate of the memory that the encoding of one image takes, in bytes, without the weights."""
        height, width = self.image_size
        vision = self.config['vision_cfg']
        num_values = VALUES_PER_PIXEL * height * width
        if 'timm_model_name' not in vision and isinstance(vision.get('layers', 12), int):
            patch_size = vision.get('patch_size', 16)
            num_tokens = (height // patch_size) * (width // patch_size) + 1
            num_values = VALUES_PER_CHANNEL * num_tokens * vision.get('width', 768)
        return num_values * self.dtype_on(device).itemsize

    def encode_image(self, images: Tensor) -> Tensor:
        """Encode images, normalized with CLIP's mean and deviation: (N, 3, h, w) -> (N, d) float32, not unit length."""
        with self.on(images.device) as network:
            return self._encode_image(network, images.to(self.dtype_on(images.device))).float()

    def compile_image_encoder(self, options: dict) -> None:
        """Let ``torch.compile``, with the given keyword arguments, compile what ``encode_image`` runs."""
        self._encode_image = compile_function(encode_image, options)

    @property
    def map_channels(self) -> tuple[int, ...] | None:
        """Channels of the maps of ``feature_maps``; None if the image encoder does not have four stages."""
        return map_channels(self.config)

    def feature_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of a convolutional image encoder's four stages, strides 4 to 32, float32.

        Args:
            images (Tensor): (N, 3, h, w), normalized with CLIP's mean and deviation.
        """
        with self.on(images.device) as network:
            maps = feature_maps(network.visual, images.to(self.dtype_on(images.device)))
            return tuple(feature_map.float() for feature_map in maps)

    def is_same(self, other: 'CLIP') -> bool:
        """Return whether another CLIP has the same weights in the same precision, and so shares one model with this."""
        return (self.model, self._weights, self.precision) == (other.model, other._weights, other.precision)

    @contextmanager
    def on(self, device: torch.device) -> Iterator[nn.Module]:
        """Yield the open_clip model on a device, in this CLIP's precision, with gradients and autocast disabled."""
        with _no_grad_no_autocast(device):
            yield self._load(device, self.dtype_on(device))

    def encode_text(self, texts: Sequence[str], device: str | torch.device = 'cpu') -> Tensor:
        """Encode N texts: (N, d) float32 embeddings, not unit length."""
        device = torch.device(device)
        tokens = get_tokenizer(self.model, self.context_length)(list(texts))
        with self.on(device) as network:
            batches = [encode_text(network, batch.to(device)) for batch in tokens.split(TEXT_BATCH_SIZE)]
            return torch.cat(batches).float()

    def text_embeddings(
        self, names: Sequence[str], prompts: str | Sequence[str], device: str | torch.device = 'cpu'
    ) -> Tensor:
        """Return the text embeddings of class names, from the cache where possible (docs/en/method.md#text-classifier).

        Each synonym of a name is filled into each template; the unit embeddings are averaged and normalized again.
        Names that OpenAI's tokenizer truncates, or that are not in Latin letters, are logged as a warning, once each.

        Args:
            names (list[str]): C class names.
            prompts (str | list[str]): Prompt set, or templates.
            device (str | torch.device): Where to compute embeddings that are not cached, and where to return them.

        Returns:
            Tensor: (C, d) float32 unit vectors.
        """
        templates = get_templates(prompts)
        device = torch.device(device)
        dtype = self.dtype_on(device)
        memory_key = (tuple(names), tuple(templates), dtype, device)
        if memory_key in self._embeddings:
            return self._embeddings[memory_key]
        # Kept embeddings must not need another tokenizer than OpenAI's, which may be multilingual.
        if not self.config['text_cfg'].get('hf_tokenizer_name'):
            warn_unreadable_names(names, templates, self.model, self.context_length)
        # The key has the computed type, not `auto`, which differs between machines that share a cache.
        disk_key = dict(clip=self.fingerprint(), dtype=str(dtype), templates=templates, names=list(names))
        shape = (len(names), self.embed_dim)
        with _no_grad_no_autocast(device):
            embeddings = self._cache.fetch(disk_key, shape, lambda: self._embed(names, templates, device))
            embeddings = embeddings.to(device)
        # Drop the oldest entry of a full cache.
        if len(self._embeddings) >= MAX_KEPT_EMBEDDINGS:
            self._embeddings.pop(next(iter(self._embeddings)))
        self._embeddings[memory_key] = embeddings
        return embeddings

    def _embed(self, names: Sequence[str], templates: list[str], device: torch.device) -> Tensor:
        # Fill each synonym of each name into each template.
        texts = [[t.replace('{}', synonym) for synonym in split_synonyms(name) for t in templates] for name in names]
        # Encode all texts together, then average over the texts of each name.
        embeddings = F.normalize(self.encode_text([text for group in texts for text in group], device), dim=-1)
        means = torch.stack([group.mean(0) for group in embeddings.split([len(group) for group in texts])])
        if not torch.isfinite(means).all():
            raise ValueError(
                f"{self.pretrained}: CLIP's text embeddings are not finite: the weights are corrupted (download them "
                "again), or half precision is too narrow for them (set precision='fp32')"
            )
        return F.normalize(means, dim=-1).cpu()

    def fetch(self) -> None:
        """Download the weights if needed, without loading them; raise ConnectionError if the hub is out of reach."""
        weight_path(self.model, self.pretrained)

    def fingerprint(self) -> str:
        """Return what identifies the weights: content hashes of local files, or architecture and tag of a hub."""
        path = Path(self.pretrained)
        if not path.is_file():
            return f'{self.model}:{self.pretrained}'
        files = [path]
        if self.model is None and sidecar_config(path).is_file():
            files.append(sidecar_config(path))
        return ':'.join([str(self.model), *map(content_hash, files)])

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """Return the type of images and matrix products on a device; raise ValueError if the device lacks it."""
        dtype = PRECISIONS[self.precision]
        if dtype is None:
            is_half = device.type == 'cuda' and lacks_precision(torch.float16, device) is None
            return torch.float16 if is_half else torch.float32
        need = lacks_precision(dtype, device)
        if need:
            raise ValueError(f"CLIP precision {self.precision!r} {need}: set precision='auto', which fits the device")
        return dtype

    def _loaded_networks(self) -> list[nn.Module]:
        with _LOCK:
            return [network for key, network in _LOADED.items() if key[:2] == (self.model, self._weights)]

    def _load(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        # One copy for each type: weights rounded to half precision cannot serve a user of float32. One copy for each
        # device: another thread may be using it there. An empty tensor turns "cuda" into "cuda:0", "cuda:1", ...
        key = (self.model, self._weights, dtype, torch.empty(0, device=device).device)
        with _LOCK:
            if key not in _LOADED:
                _LOADED[key] = load_clip(self.model, self.pretrained, device, dtype)
            return _LOADED[key]


@contextmanager
def _no_grad_no_autocast(device: torch.device) -> Iterator[None]:
    """Disable gradients, autocast and inference mode, whose tensors a later training step could not use."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


@lru_cache
def _file_config(version: tuple) -> dict:
    path = Path(version[0])
    return file_config(read_state(path), path)
