"""Dense features of CLIP's vision transformers, whose last layer is run in another way.

CLIP trains only the class token, so its patches are poor features of what they cover. NACLIP (arXiv 2404.08181) and
ClearCLIP (arXiv 2407.12442) let patches of the last layer attend to similar patches, and leave out the residual
connection and the feed-forward network.
"""

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from mmzeg.models.scorers.clip_mask_scorer import embed_patches

# Which projections of the last layer are compared.
LAST_ATTENTIONS = ('key-key', 'query-query')


def has_dense_attention(visual: nn.Module) -> bool:
    """Return whether ``dense_patches`` takes an image encoder: one of open_clip's plain vision transformers."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.proj is not None
        and type(visual.transformer.resblocks[-1]) is ResidualAttentionBlock
    )


def dense_patches(
    visual: VisionTransformer, images: Tensor, position_resize: dict, attention: str, neighborhood_std: float | None
) -> tuple[Tensor, tuple[int, int]]:
    """Return features of every patch in CLIP's joint space.

    Args:
        visual (VisionTransformer): An encoder for which ``has_dense_attention`` holds.
        images (Tensor): (B, 3, H, W), normalized.
        position_resize (dict): See ``position_embeddings.resize_positions``.
        attention (str): ``key-key`` or ``query-query``.
        neighborhood_std (float, optional): Standard deviation, in patches, of the Gaussian window around each patch
            that is added to its attention logits. None: no window.

    Returns:
        tuple[Tensor, tuple[int, int]]: (B, N, d), and rows and columns of the N patches.
    """
    x, grid = embed_patches(visual, images, position_resize)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    # Project queries, keys and values of the last layer, in separate heads.
    layer = last.attn
    projected = nn.functional.linear(last.ln_1(x), layer.in_proj_weight, layer.in_proj_bias)
    queries, keys, values = (
        heads.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for heads in projected.chunk(3, -1)
    )
    # Compare the tokens with each other.
    compared = keys if attention == 'key-key' else queries
    logits = compared @ compared.transpose(-1, -2) * compared.shape[-1] ** -0.5
    if neighborhood_std is not None:
        # The window lies over the patches; the class token has none.
        logits[..., 1:, 1:] += _gaussian_windows(grid, neighborhood_std, x.device).to(logits.dtype)
    attended = (logits.softmax(-1) @ values).transpose(1, 2).flatten(2)
    features = visual.ln_post(layer.out_proj(attended))
    return features[:, 1:] @ visual.proj, grid


def _gaussian_windows(grid: tuple[int, int], std: float, device: torch.device) -> Tensor:
    """Return exp(-d^2 / (2 std^2)) (N, N) for the distance d, in patches, between every two of N patches."""
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    row_windows, column_windows = (torch.exp(-((side[:, None] - side) ** 2) / (2 * std**2)) for side in (rows, columns))
    num_patches = grid[0] * grid[1]
    return torch.einsum('ik,jl->ijkl', row_windows, column_windows).reshape(num_patches, num_patches)
