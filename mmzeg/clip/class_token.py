"""A vision transformer's embedding of pictures without what the last layer makes of patches, which nobody reads."""

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn


def reads_class_token(visual: nn.Module) -> bool:
    """Whether an image encoder's embedding is its class token alone, by plain blocks of open_clip."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == 'tok'
        and visual.proj is not None
        and all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    )


def embed_class_token(visual: VisionTransformer, pictures: Tensor) -> Tensor:
    """(N, d) embeddings of (N, 3, h, w) pictures, those of ``visual(pictures)``; see ``reads_class_token``."""
    x = visual._embeds(pictures)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = run_block(block, x, len(x[0]))
    return visual.ln_post(run_block(last, x, 1)[:, 0]) @ visual.proj


def run_block(block: ResidualAttentionBlock, x: Tensor, count: int) -> Tensor:
    """(N, count, c) of the first tokens, which attend to all of (N, L, c), after a block."""
    attention, y = block.attn, block.ln_1(x)
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    query = F.linear(y[:, :count], weight[:width], bias[:width])
    key, value = F.linear(y, weight[width:], bias[width:]).chunk(2, -1)
    heads = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    found = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    x = x[:, :count] + block.ls_1(attention.out_proj(found))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
