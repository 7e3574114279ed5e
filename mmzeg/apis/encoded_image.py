"""The encoding of one image: everything that does not depend on class names."""

from dataclasses import dataclass

from torch import Tensor

from mmzeg.models.image_sizes import ImageSizes


@dataclass(frozen=True)
class EncodedImage:
    """The segments of one image, ready to be classified with any vocabulary.

    Made by ``ZeroShotInferencer.encode`` and read by ``ZeroShotInferencer.classify``.

    Args:
        segment_embeddings (Tensor): (Q, c) of the head.
        mask_logits (Tensor): (Q, h, w).
        clip_embeddings (Tensor, optional): (..., Q, d) from the scorer's ``encode``; None without a scorer.
        sizes (ImageSizes): Sizes of the image.
        image (Tensor): (3, H', W') RGB in 0..255, the padded input that the scorer reads.
    """

    segment_embeddings: Tensor
    mask_logits: Tensor
    clip_embeddings: Tensor | None
    sizes: ImageSizes
    image: Tensor
