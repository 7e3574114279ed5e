"""CLIP logits of all segments from one dense feature map, pooled under each mask (FC-CLIP, arXiv 2308.02487)."""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from mmzeg.models.scorers.one_pass_scorer import OnePassScorer
from mmzeg.registry import MODELS

# Segments per pass of timm's attention pool.
ATTENTION_POOL_CHUNK_SIZE = 8


@MODELS.register_module()
class CLIPDensePoolScorer(OnePassScorer):
    """Pool CLIP's last feature map under each mask, in the way that CLIP pools the complete map.

    For convolutional CLIPs (OpenAI's ResNets, timm's ConvNeXt and others), and for timm's transformers (SigLIP, EVA),
    whose input size is fixed. A mask over the complete image gives CLIP's own embedding. An encoder that reads a class
    token is the exception: there the mean of the patches takes the token's place.

    Args: See ``OnePassScorer``.
    """

    def _cell_size(self, visual: nn.Module) -> int | None:
        if isinstance(visual, ModifiedResNet):
            return 32
        if not isinstance(visual, TimmModel) or hasattr(visual.head, 'pool'):
            raise ValueError(
                f"CLIPDensePoolScorer cannot pool {type(visual).__name__} under masks: use type='mmzeg.CLIPMaskScorer' "
                "or 'mmzeg.CLIPCropScorer'"
            )
        if hasattr(visual.trunk, 'blocks') and hasattr(visual.trunk, 'pos_embed'):
            return None
        return visual.trunk.feature_info[-1]['reduction']

    def _encode_masks(self, visual: nn.Module, image: Tensor, masks: Tensor) -> Tensor:
        if isinstance(visual, ModifiedResNet):
            x = visual.stem(image)
            for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                x = layer(x)
            return _attention_pool(visual.attnpool, x[0], self._masks_on_grid(masks, x.shape[-2:]))
        x = visual.trunk.forward_features(image)
        is_sequence = x.dim() == 3
        return visual.head(self._pool_tokens(visual, x, masks) if is_sequence else self._pool_map(visual, x, masks))

    def _pool_map(self, visual: TimmModel, x: Tensor, masks: Tensor) -> Tensor:
        """Return (Q, c) features of a convolutional trunk's map (1, c, h, w)."""
        weights = _mean_weights(self._masks_on_grid(masks, x.shape[-2:]), x.dtype)
        pooled = weights @ x[0].flatten(1).t()
        # The trunk's own pooling of a single cell is that cell.
        return visual.trunk.forward_head(pooled[:, :, None, None])

    def _pool_tokens(self, visual: TimmModel, x: Tensor, masks: Tensor) -> Tensor:
        """Return (Q, c) features of a transformer trunk's tokens (1, L, c)."""
        trunk = visual.trunk
        num_prefix = trunk.num_prefix_tokens
        patch_masks = self._masks_on_grid(masks, trunk.patch_embed.grid_size)
        if getattr(trunk, 'attn_pool', None) is not None:
            num_pooled_prefix = num_prefix if trunk.pool_include_prefix else 0
            token_masks = F.pad(patch_masks.flatten(1), (num_pooled_prefix, 0), value=True)
            tokens = x if trunk.pool_include_prefix else x[:, num_prefix:]
            pooled = [
                trunk.attn_pool(tokens.expand(len(chunk), -1, -1), attn_mask=chunk[:, None, None])
                for chunk in token_masks.split(ATTENTION_POOL_CHUNK_SIZE)
            ]
            return trunk.head(trunk.head_drop(trunk.fc_norm(torch.cat(pooled))))
        pooled = _mean_weights(patch_masks, x.dtype) @ x[0, num_prefix:]
        return trunk.forward_head(pooled[:, None].expand(-1, num_prefix + 1, -1))


def _mean_weights(masks: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights (Q, N) that average the N cells under each mask (Q, h, w)."""
    masks = masks.flatten(1)
    return masks.to(dtype) / masks.sum(1, keepdim=True)


def _attention_pool(pool: AttentionPool2d, features: Tensor, masks: Tensor) -> Tensor:
    """Pool features (c, h, w) by CLIP's attention pool under masks (Q, h, w): the mean cell attends to the cells.

    Returns:
        Tensor: (Q, d).
    """
    num_segments = len(masks)
    num_heads = pool.num_heads
    # Mean of the cells under each mask, with the position embedding of CLIP's mean token.
    position = pool.positional_embedding
    cells = features.flatten(1).t()
    mean = _mean_weights(masks, cells.dtype) @ cells + position[0].to(cells.dtype)
    # Add the cells' position embeddings, resized if the map is not of the model's size.
    side = round((len(position) - 1) ** 0.5)
    grid = position[1:].float().t().view(1, -1, side, side)
    if features.shape[-2:] != (side, side):
        grid = F.interpolate(grid, size=features.shape[-2:], mode='bicubic', align_corners=False, antialias=True)
    cells = cells + grid[0].flatten(1).t().to(cells.dtype)

    def split_heads(x: Tensor) -> Tensor:
        return x.view(len(x), num_heads, -1).transpose(0, 1)

    # The mean attends to itself and to the cells under its mask.
    query = split_heads(pool.q_proj(mean)) * (mean.shape[1] // num_heads) ** -0.5
    mean_logits = (query * split_heads(pool.k_proj(mean))).sum(-1, keepdim=True)
    cell_logits = query @ split_heads(pool.k_proj(cells)).transpose(1, 2)
    cell_logits = cell_logits.masked_fill(~masks.flatten(1), -torch.inf)
    attention = torch.cat([mean_logits, cell_logits], -1).softmax(-1)
    pooled = attention[..., :1] * split_heads(pool.v_proj(mean)) + attention[..., 1:] @ split_heads(pool.v_proj(cells))
    return pool.c_proj(pooled.transpose(0, 1).reshape(num_segments, -1))
