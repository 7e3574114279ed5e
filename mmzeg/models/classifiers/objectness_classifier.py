"""The classifier of masks that come without classes: no class is likelier than another."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


@MODELS.register_module()
class ObjectnessClassifier(BaseModule):
    """Give all classes one probability, which together are the probability that a mask is an object.

    It has the members of ``CLIPTextClassifier``. A segment embedding is the mask's objectness logit, and there are no
    text embeddings: classes come from the scorer.

    Args:
        vocabulary (dict | list | Vocabulary): The classes at test, and which of them are unseen.
    """

    def __init__(self, vocabulary: dict | Sequence[str] | Vocabulary) -> None:
        super().__init__()
        self.vocabulary = Vocabulary.build(vocabulary)
        # No class was trained.
        self.train_vocabulary = Vocabulary([], allow_empty=True)
        # Knows the model's device.
        self.register_buffer('_no_text', torch.empty(0), persistent=False)

    def set_vocabulary(self, vocabulary: dict | Sequence[str] | Vocabulary) -> None:
        """Set the classes at test."""
        self.vocabulary = Vocabulary.build(vocabulary)

    def text_embeddings(self, training: bool) -> Tensor:
        """Return text embeddings (C, 0) of no width, of the training or the test vocabulary."""
        vocabulary = self.train_vocabulary if training else self.vocabulary
        return self._no_text.new_empty(len(vocabulary), 0)

    def forward(self, segment_embeddings: Tensor, text: Tensor) -> Tensor:
        """Return class logits (..., Q, C + 1), "no object" last.

        Args:
            segment_embeddings (Tensor): (..., Q, 1), objectness logits.
            text (Tensor): (C, 0), see ``text_embeddings``.
        """
        class_logits = segment_embeddings.new_zeros(*segment_embeddings.shape[:-1], len(text))
        # The softmax over C zeros and this logit gives the classes together sigmoid(objectness logit).
        return torch.cat([class_logits, math.log(len(text)) - segment_embeddings], -1)

    def no_object_logits(self, segment_embeddings: Tensor) -> Tensor:
        """Return the logits (..., Q) of "no object" against one class; they do not depend on class names."""
        return -segment_embeddings[..., 0]
