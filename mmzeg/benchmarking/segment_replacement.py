"""Replace the segments of a random model by those of a trained one, or by empty masks.

Masks decide how much work a scorer has: random weights give masks of noise, which no pruning and no merging can use.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmzeg.evaluation.loading import load_for_evaluation
from mmzeg.utils.config_files import read_config

# Logit of a pixel that is outside a mask.
OUTSIDE = -10.0


@dataclass(frozen=True)
class TrainedSegments:
    """Segments of a trained model on n images.

    Args:
        no_object_probs (Tensor): (n, Q).
        mask_logits (Tensor): (n, Q, h, w).
    """

    no_object_probs: Tensor
    mask_logits: Tensor


@torch.no_grad()
def predict_segments(config: str, checkpoint: str, num_queries: int) -> TrainedSegments:
    """Predict segments on the first test images of a config, enough images for ``num_queries`` queries.

    Args:
        config (str): A config file, or its name in ``configs``.
        checkpoint (str): File or URL of its trained weights.
        num_queries (int): How many segments are needed at least.
    """
    runner, loader = load_for_evaluation(read_config(config), checkpoint, 'test')
    model = runner.model
    no_object_probs = []
    image_mask_logits = []
    for batch in loader:
        inputs = model.data_preprocessor(batch, False)['inputs']
        class_logits, mask_logits = model.decode_head(model.extract_feat(inputs), last_layer_only=True)
        no_object_probs.append(class_logits[-1].softmax(-1)[..., -1])
        image_mask_logits.append(mask_logits[-1])
        if sum(masks.shape[0] * masks.shape[1] for masks in image_mask_logits) >= num_queries:
            break
    return TrainedSegments(torch.cat(no_object_probs), torch.cat(image_mask_logits))


def replace_segments(
    class_logits: Tensor, mask_logits: Tensor, segments: TrainedSegments | None, num_empty: int | None
) -> tuple[Tensor, Tensor]:
    """Return a head's output with other masks and "no object" logits.

    Args:
        class_logits (Tensor): (L, B, Q, C + 1).
        mask_logits (Tensor): (L, B, Q, h, w).
        segments (TrainedSegments, optional): Segments that replace the head's; their images stand side by side.
        num_empty (int, optional): How many masks become empty, from the first on.
    """
    if segments:
        mask_logits = _tile_masks(segments, mask_logits)
        class_logits = _set_no_object(class_logits, segments)
    if num_empty:
        mask_logits = mask_logits.clone()
        mask_logits[:, :, :num_empty] = OUTSIDE
    return class_logits, mask_logits


def _tile_masks(segments: TrainedSegments, mask_logits: Tensor) -> Tensor:
    """Return mask logits like (L, B, Q, h, w), with the masks of n images in n columns of equal width."""
    num_queries, height, width = mask_logits.shape[2:]
    masks = segments.mask_logits.to(mask_logits)
    column_width = width // len(masks)
    masks = F.interpolate(masks, size=(height, column_width), mode='bilinear', align_corners=False)
    columns = [
        F.pad(image_masks, (index * column_width, width - (index + 1) * column_width), value=OUTSIDE)
        for index, image_masks in enumerate(masks)
    ]
    tiled = mask_logits.clone()
    tiled[:] = torch.cat(columns)[:num_queries]
    return tiled


def _set_no_object(class_logits: Tensor, segments: TrainedSegments) -> Tensor:
    """Return class logits (L, B, Q, C + 1) whose "no object" probabilities are those of the segments."""
    without_no_object = class_logits[..., :-1]
    probs = segments.no_object_probs.to(class_logits).flatten()[: class_logits.shape[2]]
    no_object = probs.logit(1e-6) + without_no_object.logsumexp(-1)
    return torch.cat([without_no_object, no_object[..., None]], -1)
