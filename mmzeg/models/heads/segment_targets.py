"""Ground truth of a training batch as labels and masks, and what the matched queries learn from it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device

# Query indices and target indices of one image, on the host, and the matches of a layer: one per image.
Match = tuple[np.ndarray, np.ndarray]
LayerMatches = Sequence[Match]


class SegmentTargets(NamedTuple):
    """Ground truth of a batch: one target per image and class that is present, image after image.

    Args:
        present_labels (list[ndarray]): Class indices (N_b,) of every image, on the host. They sum up to N targets.
        labels (Tensor): (N,) the same class indices on the device.
        masks (Tensor): (N, H, W) bool.
        label_maps (Tensor): (B, H, W) class indices of all pixels, or the ignored value.
        is_labelled (Tensor, optional): (B, H, W) bool, pixels with a class. None: the others count as background.
    """

    present_labels: list[np.ndarray]
    labels: Tensor
    masks: Tensor
    label_maps: Tensor
    is_labelled: Tensor | None

    @property
    def num_targets(self) -> list[int]:
        """Number of targets of every image."""
        return [len(labels) for labels in self.present_labels]

    @classmethod
    def build(
        cls, label_maps: Tensor, present_labels: list[np.ndarray], is_labelled: Tensor | None
    ) -> 'SegmentTargets':
        """Build the targets of label maps (B, H, W) from the classes that are present in each."""
        labels = copy_to_device(np.concatenate(present_labels), label_maps.device)
        image_labels = labels.split([len(labels) for labels in present_labels])
        masks = torch.cat(
            [label_map == labels[:, None, None] for label_map, labels in zip(label_maps, image_labels, strict=True)]
        )
        return cls(present_labels, labels, masks, label_maps, is_labelled)


class QueryTargets(NamedTuple):
    """What the B * Q queries of one decoder layer learn.

    Args:
        labels (Tensor): (B, Q) class index of the matched target, or C for "no object".
        weights (Tensor): (B, Q) float32 weights of the classification loss.
        queries (Tensor): (M,) the matched queries, as indices into B * Q, image after image.
        targets (Tensor): (M,) their targets, as indices into the batch's N targets.
    """

    labels: Tensor
    weights: Tensor
    queries: Tensor
    targets: Tensor


def build_query_targets(
    matches: Sequence[LayerMatches],
    targets: SegmentTargets,
    num_queries: int,
    num_classes: int,
    no_object_weight: float,
    is_unknown: Tensor | None = None,
) -> list[QueryTargets]:
    """Return what the queries of every layer learn, after one copy to the device for all layers.

    Args:
        matches (Sequence[LayerMatches]): Of the L layers.
        targets (SegmentTargets): Of the batch.
        num_queries (int): Number Q of queries per image.
        num_classes (int): Number C of training classes.
        no_object_weight (float): Weight of "no object" in the classification loss.
        is_unknown (Tensor, optional): (L, B, Q) bool, queries that get no "no object" loss.
    """
    labels = np.full((len(matches), len(targets.present_labels), num_queries), num_classes)
    queries = []
    target_indices = []
    for layer, layer_matches in enumerate(matches):
        first_target = 0
        layer_queries = []
        layer_targets = []
        for image, (image_queries, image_targets) in enumerate(layer_matches):
            labels[layer, image, image_queries] = targets.present_labels[image][image_targets]
            layer_queries.append(image * num_queries + image_queries)
            layer_targets.append(first_target + image_targets)
            first_target += len(targets.present_labels[image])
        queries.append(np.concatenate(layer_queries))
        target_indices.append(np.concatenate(layer_targets))
    # Copy all indices to the device together, then split them again.
    arrays = [labels.reshape(-1), *queries, *target_indices]
    copied = copy_to_device(np.concatenate(arrays), targets.labels.device).split([len(array) for array in arrays])
    labels = copied[0].view(labels.shape)
    # Queries without a target have a lower weight, or none.
    is_no_object = labels == num_classes
    weights = torch.ones_like(labels, dtype=torch.float32).masked_fill_(is_no_object, no_object_weight)
    if is_unknown is not None:
        weights.masked_fill_(is_no_object & is_unknown, 0.0)
    num_layers = len(matches)
    layers = zip(labels, weights, copied[1 : 1 + num_layers], copied[1 + num_layers :], strict=True)
    return [QueryTargets(*layer) for layer in layers]


@torch.no_grad()
def lie_on_unlabelled(mask_logits: Tensor, is_labelled: Tensor) -> Tensor:
    """Return which masks have most of their pixels unlabelled: whether they show an object is not known.

    Args:
        mask_logits (Tensor): (L, B, Q, h, w).
        is_labelled (Tensor): (B, H, W) bool.

    Returns:
        Tensor: (L, B, Q) bool.
    """
    masks = mask_logits > 0
    is_unlabelled = F.interpolate(is_labelled[:, None].float(), size=masks.shape[-2:]) == 0
    num_unlabelled = (masks & is_unlabelled).sum((3, 4))
    return 2 * num_unlabelled > masks.sum((3, 4))


def labelled_pixels(is_labelled: Tensor) -> list[Tensor]:
    """Return the indices (K_b,) of the labelled pixels of every image, ascending, with one transfer to the host.

    Args:
        is_labelled (Tensor): (B, h, w) bool.
    """
    is_labelled = is_labelled.flatten(1)
    counts = is_labelled.sum(1).cpu().tolist()
    # A stable sort moves the labelled pixels to the front and keeps their order.
    indices = is_labelled.byte().sort(dim=1, descending=True, stable=True).indices
    return [image_indices[:count] for image_indices, count in zip(indices, counts, strict=True)]
