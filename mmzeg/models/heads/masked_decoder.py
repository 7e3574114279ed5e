"""A transformer decoder with masked attention (Mask2Former, section 3.2.1)."""

from collections.abc import Callable

import torch
from mmdet.models.layers import DetrTransformerDecoder
from torch import Tensor


class MaskedDecoder(DetrTransformerDecoder):
    """mmdet's decoder; from its second layer on a query attends only to the memory cells under its previous mask."""

    def forward(self, query: Tensor, predict_masks: Callable[[Tensor], Tensor], **layer_inputs) -> Tensor:
        """Return the segment embeddings (L, B, Q, c) of every layer.

        Args:
            query (Tensor): (B, Q, c).
            predict_masks (Callable): From segment embeddings (B, Q, c) to (B, Q, K) bool: which of the K memory cells
                are under each mask.
            layer_inputs: ``key``, ``value``, ``query_pos`` and ``key_pos`` of every layer.
        """
        segment_embeddings = []
        attn_mask = None
        for layer in self.layers:
            query = layer(query, cross_attn_mask=attn_mask, key_padding_mask=None, **layer_inputs)
            segment_embeddings.append(self.post_norm(query))
            with torch.no_grad():
                masks = predict_masks(segment_embeddings[-1])
            # A query with an empty mask attends to all cells.
            attends = masks | ~masks.any(-1, keepdim=True)
            attn_mask = (~attends).repeat_interleave(layer.cross_attn.num_heads, 0)
        return torch.stack(segment_embeddings)
