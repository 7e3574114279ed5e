"""Classification of segments by text embeddings of class names (docs/en/method.md#text-classifier)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary

# Vocabularies whose text embeddings stay in memory.
MAX_CACHED_VOCABULARIES = 8


@MODELS.register_module()
class CLIPTextClassifier(BaseModule):
    """Classify a segment by the cosine between its semantic embedding and the text embeddings of class names.

    The vocabulary is an input. Neither the vocabulary nor the text encoder is in the state dict, and both may be
    changed after training (``set_vocabulary``).

    Args:
        in_channels (int): Width of a segment embedding.
        text_encoder (dict): What turns names into embeddings: ``mmzeg.CLIP`` or ``mmzeg.EmbeddingFile``.
        vocabulary (dict | list | Vocabulary): The classes at test, and which of them are unseen.
        train_vocabulary (dict | list | Vocabulary, optional): The classes at training, in the order of the training
            dataset's labels. Defaults to the seen classes of ``vocabulary``.
        train_prompts (str | list[str]): Prompt set, or templates, in training.
        test_prompts (str | list[str]): Prompt set, or templates, at test.
        tau (float): Temperature of the cosine, > 0, fixed. Defaults to 0.01.
        no_object (bool): Whether there is a learned "no object" embedding. Defaults to True; a classifier of pixels has
            none.

    Raises:
        ValueError: ``tau`` is 0 or less, or a vocabulary is not valid.
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
        self.train_prompts = train_prompts
        self.test_prompts = test_prompts
        self.tau = tau
        self.vocabulary = Vocabulary.build(vocabulary)
        if train_vocabulary is None:
            self.train_vocabulary = self.vocabulary.training()
        else:
            self.train_vocabulary = Vocabulary.build(train_vocabulary)
        embed_dim = self.text_encoder.embed_dim
        self.projection = nn.Linear(in_channels, embed_dim)
        self.no_object = None
        if no_object:
            # As the released code: kaiming-uniform with a = sqrt(5), of a (1, d) matrix.
            self.no_object = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(1, embed_dim), a=math.sqrt(5))[0])
        self._cached_embeddings: dict[tuple, Tensor] = {}

    def set_vocabulary(self, vocabulary: dict | Sequence[str] | Vocabulary) -> None:
        """Set the classes at test; no weight changes."""
        self.vocabulary = Vocabulary.build(vocabulary)

    def text_embeddings(self, training: bool) -> Tensor:
        """Return (C, d) unit text embeddings of the training or the test vocabulary, on the classifier's device."""
        vocabulary = self.train_vocabulary if training else self.vocabulary
        prompts = vocabulary.prompts
        if prompts is None:
            prompts = self.train_prompts if training else self.test_prompts
        key = (vocabulary, prompts if isinstance(prompts, str) else tuple(prompts))
        device = self.projection.weight.device
        embeddings = self._cached_embeddings.get(key)
        if embeddings is None or embeddings.device != device:
            embeddings = self.text_encoder.text_embeddings(vocabulary.names, prompts, device=device).to(device)
            if len(self._cached_embeddings) >= MAX_CACHED_VOCABULARIES:
                oldest = next(iter(self._cached_embeddings))
                self._cached_embeddings.pop(oldest)
            self._cached_embeddings[key] = embeddings
        return embeddings

    def forward(self, segment_embeddings: Tensor, text: Tensor) -> Tensor:
        """Return class logits of every segment (or pixel), "no object" last if there is one.

        Args:
            segment_embeddings (Tensor): (..., Q, in_channels).
            text (Tensor): (C, d) unit text embeddings.

        Returns:
            Tensor: (..., Q, C + 1), or (..., Q, C) without "no object": cosine / tau. For "no object" only the
            segment's side is normalized, as in the released code.
        """
        semantic_embeddings = F.normalize(self.projection(segment_embeddings), dim=-1)
        class_embeddings = text.to(semantic_embeddings.dtype)
        if self.no_object is not None:
            no_object = self.no_object[None].to(semantic_embeddings.dtype)
            class_embeddings = torch.cat([class_embeddings, no_object])
        return semantic_embeddings @ class_embeddings.t() / self.tau

    def no_object_logits(self, segment_embeddings: Tensor) -> Tensor:
        """Return the logits (..., Q) of "no object" only, which no class name changes."""
        no_class = self.no_object.new_empty(0, len(self.no_object))
        return self(segment_embeddings, no_class)[..., 0]
