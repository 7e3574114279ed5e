"""Word vectors from a file instead of CLIP's text encoder, as SPNet used them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from mmzeg.class_names import split_synonyms
from mmzeg.registry import MODELS


@MODELS.register_module()
class EmbeddingFile:
    """Name to vector, from ``.npz`` or ``.safetensors``; stands where ``mmzeg.CLIP`` stands in a classifier.

    Args:
        path (str): The file. A class is looked up by its whole name, else by each synonym.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file, vectors of different widths, or (when asked for) a class without a vector.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f'{path}: no such embedding file (.npz or .safetensors of name -> vector)')
        try:
            if self.path.suffix == '.safetensors':
                self.vectors = {name: vector.float() for name, vector in load_file(self.path).items()}
            else:
                with np.load(self.path, allow_pickle=False) as file:
                    self.vectors = {name: torch.from_numpy(file[name]).float() for name in file.files}
        except Exception as error:
            raise ValueError(f'{path}: cut off, or no .npz or .safetensors of name -> vector; make it again') from error
        shapes = {tuple(vector.shape) for vector in self.vectors.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f'{path}: every name needs one vector of the same width, found shapes {sorted(shapes)}')

    @property
    def embed_dim(self) -> int:
        """Width d of the vectors."""
        return len(next(iter(self.vectors.values())))

    def text_embeddings(
        self, names: Sequence[str], prompts: str | Sequence[str], device: str | torch.device = 'cpu'
    ) -> Tensor:
        """(C, d) unit vectors, float32; synonyms are normalised and averaged. Word vectors know no prompts, and
        need no device."""
        return torch.stack([self._embed(name) for name in names])

    def _embed(self, name: str) -> Tensor:
        words = [name] if name in self.vectors else split_synonyms(name)
        missing = [word for word in words if word not in self.vectors]
        if missing:
            raise ValueError(f'{self.path}: no vector for class {name!r} ({missing[0]!r}): add it to the file')
        return F.normalize(F.normalize(torch.stack([self.vectors[word] for word in words]), dim=-1).mean(0), dim=0)
