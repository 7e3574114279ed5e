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
from mmzeg.utils.weight_files import check_finite


@MODELS.register_module()
class EmbeddingFile:
    """Look up class names in a file of word vectors; replaces ``mmzeg.CLIP`` in a text classifier.

    Args:
        path (str): A ``.npz`` or ``.safetensors`` file of name -> vector. A class is looked up by its complete name,
            else by each synonym.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file, vectors of different widths or with NaN, or (at a look-up) a class without a
            vector.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f'{path}: no such embedding file (.npz or .safetensors of name -> vector)')
        try:
            if self.path.suffix == '.safetensors':
                self.vectors = {name: vector.float() for name, vector in load_file(self.path).items()}
            else:
                # np.load leaves a file open that it cannot read.
                with open(self.path, 'rb') as stream, np.load(stream, allow_pickle=False) as file:
                    self.vectors = {name: torch.from_numpy(file[name]).float() for name in file.files}
        except Exception as error:
            raise ValueError(
                f'{path}: truncated, or no .npz or .safetensors of name -> vector; make it again'
            ) from error
        shapes = {tuple(vector.shape) for vector in self.vectors.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f'{path}: every name needs one vector of the same width, got shapes {sorted(shapes)}')
        check_finite(path, self.vectors)

    @property
    def embed_dim(self) -> int:
        """Width d of the vectors."""
        return len(next(iter(self.vectors.values())))

    def text_embeddings(
        self, names: Sequence[str], prompts: str | Sequence[str], device: str | torch.device = 'cpu'
    ) -> Tensor:
        """Return (C, d) float32 unit vectors of C class names; synonyms are normalized and averaged.

        ``prompts`` and ``device`` have no effect: word vectors have no prompts.
        """
        return torch.stack([self._embed(name) for name in names])

    def _embed(self, name: str) -> Tensor:
        synonyms = [name] if name in self.vectors else split_synonyms(name)
        missing = [synonym for synonym in synonyms if synonym not in self.vectors]
        if missing:
            raise ValueError(f'{self.path}: no vector for class {name!r} ({missing[0]!r}): add it to the file')
        unit_vectors = F.normalize(torch.stack([self.vectors[synonym] for synonym in synonyms]), dim=-1)
        return F.normalize(unit_vectors.mean(0), dim=0)
