"""CLIP's opinion of all segments from one dense map, pooled under each mask (FC-CLIP, arXiv 2308.02487)."""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from mmzeg.models.scorers.one_pass_scorer import OnePassScorer
from mmzeg.registry import MODELS


@MODELS.register_module()
class CLIPDensePoolScorer(OnePassScorer):
    """CLIP's last map, pooled under each mask as CLIP pools the whole of it.

    For convolutional CLIPs (OpenAI's ResNets, timm's ConvNeXt and others), and for timm's transformers (SigLIP, EVA),
    whose input has a fixed size. A mask over the whole picture gives CLIP's own embedding, except where that is a class
    token's, to which the mean of the patches stands in.

    Args: See ``OnePassScorer``.
    """

    def _cell(self, visual: nn.Module) -> int | None:
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

    def _encode(self, visual: nn.Module, picture: Tensor, masks: Tensor) -> Tensor:
        if isinstance(visual, ModifiedResNet):
            x = visual.stem(picture)
            for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                x = layer(x)
            return _attend(visual.attnpool, x[0], self._under(masks, x.shape[-2:]))
        x = visual.trunk.forward_features(picture)
        return visual.head(self._pool_tokens(visual, x, masks) if x.dim() == 3 else self._pool_map(visual, x, masks))

    def _pool_map(self, visual: TimmModel, x: Tensor, masks: Tensor) -> Tensor:
        weights = _means(self._under(masks, x.shape[-2:]), x.dtype)
        # The trunk's own pooling of one cell is that cell.
        return visual.trunk.forward_head((weights @ x[0].flatten(1).t())[:, :, None, None])

    def _pool_tokens(self, visual: TimmModel, x: Tensor, masks: Tensor) -> Tensor:
        trunk = visual.trunk
        prefix = trunk.num_prefix_tokens
        inside = self._under(masks, trunk.patch_embed.grid_size)
        if getattr(trunk, 'attn_pool', None) is not None:
            shown = F.pad(inside.flatten(1), (prefix if trunk.pool_include_prefix else 0, 0), value=True)
            tokens = x if trunk.pool_include_prefix else x[:, prefix:]
            parts = [
                trunk.attn_pool(tokens.expand(len(part), -1, -1), attn_mask=part[:, None, None])
                for part in shown.split(8)
            ]
            return trunk.head(trunk.head_drop(trunk.fc_norm(torch.cat(parts))))
        pooled = _means(inside, x.dtype) @ x[0, prefix:]
        return trunk.forward_head(pooled[:, None].expand(-1, prefix + 1, -1))


def _means(inside: Tensor, dtype: torch.dtype) -> Tensor:
    """(Q, N) weights that average the cells under masks (Q, h, w)."""
    inside = inside.flatten(1)
    return inside.to(dtype) / inside.sum(1, keepdim=True)


def _attend(pool: AttentionPool2d, features: Tensor, inside: Tensor) -> Tensor:
    """(Q, d): CLIP's attention pool, whose query is the mean of what lies under the mask, on that alone."""
    count, heads = len(inside), pool.num_heads
    position = pool.positional_embedding
    side = round((len(position) - 1) ** 0.5)
    cells = features.flatten(1).t()
    mean = _means(inside, cells.dtype) @ cells + position[0].to(cells.dtype)
    grid = position[1:].float().t().view(1, -1, side, side)
    if features.shape[-2:] != (side, side):
        grid = F.interpolate(grid, size=features.shape[-2:], mode='bicubic', align_corners=False, antialias=True)
    cells = cells + grid[0].flatten(1).t().to(cells.dtype)

    def split(x: Tensor) -> Tensor:
        return x.view(len(x), heads, -1).transpose(0, 1)

    query = split(pool.q_proj(mean)) * (mean.shape[1] // heads) ** -0.5
    on_mean = (query * split(pool.k_proj(mean))).sum(-1, keepdim=True)
    on_cells = query @ split(pool.k_proj(cells)).transpose(1, 2)
    on_cells = on_cells.masked_fill(~inside.flatten(1), -torch.inf)
    share = torch.cat([on_mean, on_cells], -1).softmax(-1)
    found = share[..., :1] * split(pool.v_proj(mean)) + share[..., 1:] @ split(pool.v_proj(cells))
    return pool.c_proj(found.transpose(0, 1).reshape(count, -1))
