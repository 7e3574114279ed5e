"""CLIP logits of all segments from one pass of CLIP's vision transformer (ODISE's MaskCLIP, arXiv 2303.04803)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from mmzeg.models.scorers.one_pass_scorer import OnePassScorer
from mmzeg.registry import MODELS


@MODELS.register_module()
class CLIPMaskScorer(OnePassScorer):
    """Encode each segment by a class token that attends to itself and to the patches under its mask only.

    For open_clip's own vision transformers (OpenAI's, LAION's, MetaCLIP's, DFN's, CoCa's). Patches attend as in CLIP:
    they do not attend to the added tokens. A mask over the complete image gives CLIP's own embedding.

    Args:
        clip, prompts, input_size, mask_dilation, pruning, merge_iou_thr: See ``OnePassScorer``. Position embeddings are
            resized to the input; ``mask_dilation`` is in patches.
        num_masked_layers (int, optional): Number of last layers in which the tokens are masked. Before these layers all
            segments share the one class token, which attends to the complete image. Defaults to None, or a number above
            the number of layers: all layers.

    Raises:
        ValueError: ``num_masked_layers`` is below 1.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | Sequence[int] | None = None,
        mask_dilation: int = 0,
        num_masked_layers: int | None = None,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        if num_masked_layers is not None and num_masked_layers < 1:
            raise ValueError(f'scorer num_masked_layers must be 1 or more, got {num_masked_layers}')
        super().__init__(clip, prompts, input_size, mask_dilation, pruning, merge_iou_thr)
        self.num_masked_layers = num_masked_layers

    def _cell_size(self, visual: nn.Module) -> int:
        is_transformer = isinstance(visual, VisionTransformer)
        if not is_transformer or visual.attn_pool is not None and visual.attn_pool_contrastive:
            raise ValueError(
                f"CLIPMaskScorer needs one of open_clip's vision transformers, not {type(visual).__name__}: use "
                "type='mmzeg.CLIPDensePoolScorer'"
            )
        return visual.patch_size[0]

    def _encode_masks(self, visual: VisionTransformer, image: Tensor, masks: Tensor) -> Tensor:
        # Embed the patches and prepend the class token, as CLIP does.
        patches = visual.conv1(image)
        grid = patches.shape[-2:]
        # open_clip keeps parameters that are not matrices in float32.
        class_token = visual.class_embedding.to(patches.dtype).expand(1, 1, -1)
        x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], 1)
        x = visual.ln_pre(x + _position_embeddings(visual, grid).to(x.dtype))
        patch_masks = self._masks_on_grid(masks, grid).flatten(1)
        # Run the layers before the masked ones with the one class token.
        blocks = visual.transformer.resblocks
        num_layers = len(blocks)
        first_masked = num_layers - min(self.num_masked_layers or num_layers, num_layers)
        for block in blocks[:first_masked]:
            x = block(x)
        # Append a copy of the class token for every segment.
        num_tokens = x.shape[1]
        num_segments = len(masks)
        x = torch.cat([x, x[:, :1].expand(-1, num_segments, -1)], 1)
        # CLIP's tokens attend to each other; a segment's token attends to itself and to the patches under its mask.
        attends = torch.eye(num_tokens + num_segments, dtype=torch.bool, device=x.device)
        attends[:num_tokens, :num_tokens] = True
        attends[num_tokens:, 1:num_tokens] = patch_masks
        attn_mask = torch.zeros(attends.shape, dtype=x.dtype, device=x.device).masked_fill(~attends, -torch.inf)
        for block in blocks[first_masked:]:
            x = block(x, attn_mask=attn_mask)
        # Pool and project as CLIP does.
        return self._pool(visual, x[0, num_tokens:], x[0, 1:num_tokens], patch_masks) @ visual.proj

    @staticmethod
    def _pool(visual: VisionTransformer, tokens: Tensor, patches: Tensor, patch_masks: Tensor) -> Tensor:
        """Return (Q, c) pooled features of segment tokens (Q, c), patches (N, c) and masks (Q, N), as CLIP pools."""
        if visual.attn_pool is not None:
            pool = visual.attn_pool
            query = pool.ln_q(pool.query.to(tokens.dtype))[:1].expand(len(patch_masks), -1)
            keys = pool.ln_k(torch.cat([tokens, patches]))
            is_own_token = torch.eye(len(patch_masks), dtype=torch.bool, device=patch_masks.device)
            attends = torch.cat([is_own_token, patch_masks], 1)
            attn_mask = torch.zeros_like(attends, dtype=keys.dtype).masked_fill(~attends, -torch.inf)
            return visual.ln_post(pool.attn(query, keys, keys, attn_mask=attn_mask, need_weights=False)[0])
        if visual.pool_type == 'tok':
            return visual.ln_post(tokens)
        weights = patch_masks.to(patches.dtype) / patch_masks.sum(1, keepdim=True)
        if visual.final_ln_after_pool:
            return visual.ln_post(weights @ patches)
        return weights @ visual.ln_post(patches)


def _position_embeddings(visual: VisionTransformer, grid: Sequence[int]) -> Tensor:
    """Return position embeddings (1 + h * w, c), resized if the grid is not the model's."""
    embeddings = visual.positional_embedding
    if tuple(grid) == tuple(visual.grid_size):
        return embeddings
    patch_embeddings = embeddings[1:].float().view(1, *visual.grid_size, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(patch_embeddings, size=tuple(grid), mode='bicubic', align_corners=False, antialias=True)
    return torch.cat([embeddings[:1], resized.flatten(2)[0].t().to(embeddings.dtype)])
