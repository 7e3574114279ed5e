"""A transformer decoder whose queries look where their masks are (Mask2Former, section 3.2.1)."""

from collections.abc import Callable

import torch
from mmdet.models.layers import DetrTransformerDecoder
from torch import Tensor


class MaskedDecoder(DetrTransformerDecoder):
    """mmdet's decoder; from its second layer on a query attends to the cells that its last mask covers."""

    def forward(self, query: Tensor, inside: Callable[[Tensor], Tensor], **fields) -> Tensor:
        """Segments (L, B, Q, c) of every layer.

        Args:
            query (Tensor): (B, Q, c).
            inside (Callable): From segments (B, Q, c), whether a cell of the memory is under the mask, (B, Q, K) bool.
            fields: ``key``, ``value``, ``query_pos``, ``key_pos`` of a layer.
        """
        segments, mask = [], None
        for layer in self.layers:
            query = layer(query, cross_attn_mask=mask, key_padding_mask=None, **fields)
            segments.append(self.post_norm(query))
            with torch.no_grad():
                covered = inside(segments[-1])
            # A query without a mask looks everywhere.
            outside = ~(covered | ~covered.any(-1, keepdim=True))
            mask = outside.repeat_interleave(layer.cross_attn.num_heads, 0)
        return torch.stack(segments)
