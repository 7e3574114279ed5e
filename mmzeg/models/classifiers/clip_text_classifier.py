"""Segment-level zero-shot classification (paper section 3.3; reference "The model", steps 5 and 6)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


@MODELS.register_module()
class CLIPTextClassifier(BaseModule):
    """Names a segment by the cosine between its semantic embedding and the text embeddings of class names.

    The vocabulary is an input: neither it nor the text encoder is in the state dict, and both may be changed after
    training (``set_vocabulary``).

    Args:
        in_channels (int): Width of a segment embedding.
        text_encoder (dict): What turns names into embeddings: ``mmzeg.CLIP`` or ``mmzeg.EmbeddingFile``.
        vocabulary (dict | list | Vocabulary): The classes at test, and which of them are unseen.
        train_vocabulary (dict | list | Vocabulary, optional): The classes at training, in the order of the training
            dataset's labels. Defaults to the seen part of ``vocabulary``.
        train_prompts (str | list[str]): Prompt set, or templates, in training.
        test_prompts (str | list[str]): Prompt set, or templates, at test.
        tau (float): Temperature of the cosine, > 0, fixed. Defaults to 0.01.
        no_object (bool): Whether there is a learned "no object". Defaults to True; what names pixels has none.
    """

    def __init__(
        self,
        in_channels: int,
        text_encoder: dict,
        vocabulary: dict | Sequence[str] | Vocabulary,
        train_vocabulary: dict | Sequence[str] | Vocabulary | None = None,
        train_prompts: str | Sequence[str] = 'imagenet_select',
        test_prompts: str | Sequence[str] = 'imagenet_select',
        tau: float = 0.01,
        no_object: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if tau <= 0:
            raise ValueError(f'tau must be above 0, got {tau}: the paper uses 0.01')
        self.text_encoder = MODELS.build(text_encoder)
        self.train_prompts, self.test_prompts, self.tau = train_prompts, test_prompts, tau
        self.vocabulary = Vocabulary.build(vocabulary)
        self.train_vocabulary = (
            self.vocabulary.training() if train_vocabulary is None else Vocabulary.build(train_vocabulary)
        )
        embed_dim = self.text_encoder.embed_dim
        self.projection = nn.Linear(in_channels, embed_dim)
        self.no_object = None
        if no_object:
            # As the released code: kaiming-uniform with a = sqrt(5), of a (1, d) matrix (reference, step 5).
            self.no_object = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(1, embed_dim), a=math.sqrt(5))[0])
        self._embeddings: dict[Vocabulary, Tensor] = {}

    def set_vocabulary(self, vocabulary: dict | Sequence[str] | Vocabulary) -> None:
        """Name other classes at test from now on; no weight changes."""
        self.vocabulary = Vocabulary.build(vocabulary)

    def text_embeddings(self, training: bool) -> Tensor:
        """(C, d) unit text embeddings of the training or the test vocabulary, on the classifier's device."""
        vocabulary = self.train_vocabulary if training else self.vocabulary
        prompts = vocabulary.prompts
        if prompts is None:
            prompts = self.train_prompts if training else self.test_prompts
        key = (vocabulary, prompts if isinstance(prompts, str) else tuple(prompts))
        found, device = self._embeddings.get(key), self.projection.weight.device
        if found is None or found.device != device:
            found = self.text_encoder.text_embeddings(vocabulary.names, prompts, device=device).to(device)
            if len(self._embeddings) >= 8:
                self._embeddings.pop(next(iter(self._embeddings)))
            self._embeddings[key] = found
        return found

    def forward(self, segments: Tensor, text: Tensor) -> Tensor:
        """Logits of every segment (or pixel) over the classes, "no object" last if there is one.

        Args:
            segments (Tensor): (..., Q, in_channels) segment embeddings.
            text (Tensor): (C, d) unit text embeddings.

        Returns:
            Tensor: (..., Q, C + 1), or (..., Q, C) without "no object": cosine / tau; for "no object" only the
            segment's side is normalised, as in the released code.
        """
        semantic = F.normalize(self.projection(segments), dim=-1)
        names = text.to(semantic.dtype)
        if self.no_object is not None:
            names = torch.cat([names, self.no_object[None].to(semantic.dtype)])
        return semantic @ names.t() / self.tau
