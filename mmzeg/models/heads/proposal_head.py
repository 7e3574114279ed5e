"""The head of masks that another model, or a file, gives."""

from mmengine.model import BaseModule
from torch import Tensor

from mmzeg.models.proposals.proposal_batch import ProposalBatch
from mmzeg.registry import MODELS


@MODELS.register_module()
class ProposalHead(BaseModule):
    """Hand masks over with the members of ``ZegFormerHead``; there is nothing to train.

    Args:
        classifier (dict): ``mmzeg.ObjectnessClassifier``.
        ignore_index (int): Label value without a class. Defaults to 255.
    """

    align_corners = False  # read by mmseg

    def __init__(self, classifier: dict, ignore_index: int = 255) -> None:
        super().__init__()
        self.classifier = MODELS.build(classifier)
        self.ignore_index = ignore_index

    @property
    def num_classes(self) -> int:
        """Number C of classes at test."""
        return len(self.classifier.vocabulary)

    @property
    def out_channels(self) -> int:
        """Channels of the semantic map, under mmseg's name."""
        return self.num_classes

    def forward(
        self, x: ProposalBatch, text: Tensor | None = None, last_layer_only: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return class logits (1, B, Q, C + 1), "no object" last, and mask logits (1, B, Q, h, w).

        Args:
            x (ProposalBatch): The masks.
            text (Tensor, optional): As of the classifier. Defaults to that of the test vocabulary.
            last_layer_only (bool): Unused: there is one layer.
        """
        if text is None:
            text = self.classifier.text_embeddings(training=False)
        segment_embeddings, mask_logits = self.encode_segments(x)
        return self.classifier(segment_embeddings, text), mask_logits

    def encode_segments(self, x: ProposalBatch, last_layer_only: bool = True) -> tuple[Tensor, Tensor]:
        """Return objectness logits (1, B, Q, 1) in place of segment embeddings, and mask logits (1, B, Q, h, w)."""
        return x.objectness_logits[None, ..., None], x.mask_logits[None]
