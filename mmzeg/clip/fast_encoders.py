"""open_clip's encoders without what is computed there and read by nobody; the embeddings are the same."""

import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor, nn


def encode_image(network: nn.Module, pictures: Tensor) -> Tensor:
    """(N, d) embeddings, not normalised, of (N, 3, h, w) pictures.

    Where they are a vision transformer's class token alone, its last layer works on that token alone.
    """
    visual = network.visual
    if not reads_class_token(visual):
        return network.encode_image(pictures, normalize=False)
    x = visual._embeds(pictures)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = _run(block, x, x.shape[1])
    return visual.ln_post(_run(last, x, 1)[:, 0]) @ visual.proj


def encode_text(network: nn.Module, tokens: Tensor) -> Tensor:
    """(N, d) embeddings, not normalised, of (N, L) tokens.

    Where a token sees those before it and the one that ends a text is read, what comes after the longest text is cut.
    """
    if not reads_end_of_text(network):
        return network.encode_text(tokens, normalize=False)
    length = int(tokens.argmax(-1).max()) + 1
    tokens, dtype = tokens[:, :length], network.transformer.get_cast_dtype()
    x = network.token_embedding(tokens).to(dtype) + network.positional_embedding[:length].to(dtype)
    x = network.ln_final(network.transformer(x, attn_mask=network.attn_mask[:length, :length]))
    projection = network.text_projection
    x = text_global_pool(x, tokens, 'argmax')
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def reads_class_token(visual: nn.Module) -> bool:
    """Whether an image encoder's embedding is its class token alone, by plain blocks of open_clip."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == 'tok'
        and visual.proj is not None
        and all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    )


def reads_end_of_text(network: nn.Module) -> bool:
    """Whether a text's embedding is what its end, the highest token, makes of what comes before."""
    return (
        type(network) is CLIP
        and network.text_pool_type == 'argmax'
        and network.attn_mask is not None
        and network.text_projection is not None
    )


def _run(block: ResidualAttentionBlock, x: Tensor, count: int) -> Tensor:
    """(N, count, c) of the first tokens, which attend to all of (N, L, c), after a block."""
    attention, y = block.attn, block.ln_1(x)
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    query = F.linear(y[:, :count], weight[:width], bias[:width])
    key, value = F.linear(y, weight[width:], bias[width:]).chunk(2, -1)
    heads = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    found = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    x = x[:, :count] + block.ls_1(attention.out_proj(found))
    hidden = block.mlp.c_fc(block.ln_2(x))
    return x + block.ls_2(block.mlp.c_proj(_activate(block.mlp.gelu, hidden)))


def _activate(function: nn.Module, hidden: Tensor) -> Tensor:
    """The activation; open_clip's own of OpenAI's models writes three tensors of this size, the largest of a layer."""
    return (1.702 * hidden).sigmoid_().mul_(hidden) if isinstance(function, QuickGELU) else function(hidden)
