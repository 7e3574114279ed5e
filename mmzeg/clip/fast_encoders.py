"""open_clip's encoders without the values that no output depends on; the embeddings are the same."""

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor, nn


def encode_image(network: nn.Module, images: Tensor) -> Tensor:
    """Encode (N, 3, h, w) images into (N, d) embeddings, not unit length.

    If the embedding is the class token of a vision transformer, the last layer computes this token only.
    """
    visual = network.visual
    if not reads_class_token(visual):
        return network.encode_image(images, normalize=False)
    x = visual._embeds(images)
    *blocks, last_block = visual.transformer.resblocks
    for block in blocks:
        x = run_block(block, x, num_tokens=x.shape[1])
    class_token = run_block(last_block, x, num_tokens=1)[:, 0]
    return visual.ln_post(class_token) @ visual.proj


def encode_text(network: nn.Module, tokens: Tensor) -> Tensor:
    """Encode (N, L) tokens into (N, d) embeddings, not unit length.

    If the embedding is that of the end token, under causal attention, the padding after the longest text is dropped.
    """
    if not reads_end_of_text(network):
        return network.encode_text(tokens, normalize=False)
    # Drop the padding after the longest text; the end token is the highest.
    length = int(tokens.argmax(-1).max()) + 1
    tokens = tokens[:, :length]
    # Embed the tokens, run the transformer, and project the end token.
    dtype = network.transformer.get_cast_dtype()
    x = network.token_embedding(tokens).to(dtype) + network.positional_embedding[:length].to(dtype)
    x = network.ln_final(network.transformer(x, attn_mask=network.attn_mask[:length, :length]))
    x = text_global_pool(x, tokens, 'argmax')
    projection = network.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def reads_class_token(visual: nn.Module) -> bool:
    """Return whether an image encoder's embedding is its class token, computed by plain blocks of open_clip."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == 'tok'
        and visual.proj is not None
        and all(map(is_plain_block, visual.transformer.resblocks))
    )


def reads_end_of_text(network: nn.Module) -> bool:
    """Return whether a text's embedding is that of its end token, under causal attention."""
    return (
        type(network) is CLIP
        and network.text_pool_type == 'argmax'
        and network.attn_mask is not None
        and network.text_projection is not None
    )


def is_plain_block(block: nn.Module) -> bool:
    """Return whether ``run_block`` and ``run_masked_block`` compute what a block computes."""
    return type(block) is ResidualAttentionBlock


def run_block(block: ResidualAttentionBlock, x: Tensor, num_tokens: int) -> Tensor:
    """Run a block for the first tokens of (N, L, c), which attend to all L; returns (N, num_tokens, c)."""
    attention = block.attn
    normed = block.ln_1(x)
    # Project queries of the first tokens, keys and values of all.
    width = x.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = F.linear(normed[:, :num_tokens], weight[:width], bias[:width])
    key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, -1)
    heads = (_split_heads(tensor, attention.num_heads) for tensor in (query, key, value))
    attended = F.scaled_dot_product_attention(*heads)
    return _finish_block(block, x[:, :num_tokens], attended)


def run_masked_block(
    block: ResidualAttentionBlock, x: Tensor, num_context: int, attn_mask: Tensor, is_last: bool
) -> Tensor:
    """Run a block for two groups of tokens: the context, which attends to itself, and segments, which are masked.

    Args:
        block (ResidualAttentionBlock): One for which ``is_plain_block`` holds.
        x (Tensor): (N, num_context + Q, c), the context first.
        num_context (int): Number of context tokens.
        attn_mask (Tensor): (Q, num_context + Q), added to the logits of the segments' attention.
        is_last (bool): True: only the segments are computed.

    Returns:
        Tensor: As ``x``; (N, Q, c) of the segments if ``is_last``.
    """
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (_split_heads(tensor, attention.num_heads) for tensor in projected.chunk(3, -1))
    attended = F.scaled_dot_product_attention(query[:, :, num_context:], key, value, attn_mask=attn_mask)
    if is_last:
        return _finish_block(block, x[:, num_context:], attended)
    context = F.scaled_dot_product_attention(*(tensor[:, :, :num_context] for tensor in (query, key, value)))
    return _finish_block(block, x, torch.cat([context, attended], 2))


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Return (N, heads, L, c / heads) of (N, L, c)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _finish_block(block: ResidualAttentionBlock, x: Tensor, attended: Tensor) -> Tensor:
    """Return a block's output (N, L, c) for its input and the values (N, heads, L, c / heads) that it attended to."""
    x = x + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    # Feed-forward network.
    hidden = block.mlp.c_fc(block.ln_2(x))
    return x + block.ls_2(block.mlp.c_proj(_activate(block.mlp.gelu, hidden)))


def _activate(function: nn.Module, hidden: Tensor) -> Tensor:
    """Apply the activation; open_clip's QuickGELU would allocate three tensors of this size, a layer's largest."""
    return (1.702 * hidden).sigmoid_().mul_(hidden) if isinstance(function, QuickGELU) else function(hidden)
