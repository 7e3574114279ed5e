"""CLIP logits of all segments from one pass of CLIP's vision transformer: a class token for each mask.

IP-CLIP (MAFT, arXiv 2310.00240) by default; ODISE's MaskCLIP (arXiv 2303.04803) and others by fields.
"""

from collections.abc import Mapping, Sequence

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from mmzeg.clip.fast_encoders import is_plain_block, run_block, run_masked_block
from mmzeg.models.scorers.one_pass_scorer import MasksOnGrid, OnePassScorer
from mmzeg.models.scorers.position_embeddings import resize_positions
from mmzeg.registry import MODELS

# How MAFT's code resizes position embeddings.
IP_CLIP_POSITIONS = dict(mode='bicubic', align_corners=True)


@MODELS.register_module()
class CLIPMaskScorer(OnePassScorer):
    """Encode each segment by a class token that attends to itself and to the patches under its mask only.

    For open_clip's own vision transformers (OpenAI's, LAION's, MetaCLIP's, DFN's, CoCa's). The tokens of all segments
    are computed together; patches and CLIP's own class token do not attend to them. Before the masked layers all
    segments share CLIP's class token. The defaults are the published settings of IP-CLIP; ``configs/_base_/scorers``
    holds those of other papers.

    Args:
        clip, prompts, pruning, merge_iou_thr, logit_scale: See ``OnePassScorer``.
        input_size, mask_dilation, antialias, mask_resize, position_resize: See ``OnePassScorer``.
        num_masked_layers (int, optional): Number of last layers in which the tokens are masked; above the number of
            layers: all layers. Defaults to None: the last third of the layers, 4 of 12.
        patches_see_class_token (bool): Whether CLIP's own class token remains among the tokens that patches attend to
            in the masked layers. Defaults to False.
        empty_mask (str): What the token of a mask that covers no patch attends to. ``class_token`` (default): itself
            only. ``best_cell``: the patch where the mask's value is the highest, too.

    Raises:
        ValueError: ``num_masked_layers`` is below 1; or as ``OnePassScorer``.
    """

    EMPTY_MASKS = ('class_token', 'best_cell')

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | tuple[int, int] | str | list | None = (480, 480),
        mask_dilation: int = 0,
        num_masked_layers: int | None = None,
        patches_see_class_token: bool = False,
        antialias: bool = False,
        mask_resize: str = 'bilinear',
        position_resize: Mapping[str, object] = IP_CLIP_POSITIONS,
        empty_mask: str = 'class_token',
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
        logit_scale: float | None = None,
    ) -> None:
        if num_masked_layers is not None and num_masked_layers < 1:
            raise ValueError(f'scorer num_masked_layers must be 1 or more, got {num_masked_layers}')
        super().__init__(
            clip,
            prompts,
            input_size,
            mask_dilation,
            antialias,
            mask_resize,
            position_resize,
            empty_mask,
            pruning,
            merge_iou_thr,
            logit_scale,
        )
        self.num_masked_layers = num_masked_layers
        self.patches_see_class_token = patches_see_class_token

    def _cell_size(self, visual: nn.Module) -> int:
        is_transformer = isinstance(visual, VisionTransformer)
        if not is_transformer or visual.attn_pool is not None and visual.attn_pool_contrastive:
            raise ValueError(
                f"CLIPMaskScorer needs one of open_clip's vision transformers, not {type(visual).__name__}: use "
                "type='mmzeg.CLIPDensePoolScorer'"
            )
        return visual.patch_size[0]

    def _encode_masks(self, visual: VisionTransformer, images: Tensor, on_grids: Sequence[MasksOnGrid]) -> list[Tensor]:
        x, grid = embed_patches(visual, images, self.position_resize)
        # Run the layers before the masked ones with the one class token.
        blocks = visual.transformer.resblocks
        num_masked = min(self.num_masked_layers or max(1, round(len(blocks) / 3)), len(blocks))
        first_masked = len(blocks) - num_masked
        for block in blocks[:first_masked]:
            x = run_block(block, x, x.shape[1]) if is_plain_block(block) else block(x)
        # The images may differ in their number of segments.
        return [
            self._run_masked_layers(visual, tokens, on_grid(grid).flatten(1), first_masked)
            for tokens, on_grid in zip(x.split(1), on_grids, strict=True)
        ]

    def _run_masked_layers(
        self, visual: VisionTransformer, x: Tensor, patch_masks: Tensor, first_masked: int
    ) -> Tensor:
        """Return (Q, d) embeddings of one image's segments.

        Args:
            visual (VisionTransformer): CLIP's image encoder.
            x (Tensor): (1, 1 + N, c), class token and patches before the masked layers.
            patch_masks (Tensor): (Q, N) bool.
            first_masked (int): Index of the first masked layer.
        """
        blocks = visual.transformer.resblocks
        # Give every segment a copy of the class token.
        num_segments, num_patches = patch_masks.shape
        class_token = x[:, :1]
        context = x if self.patches_see_class_token else x[:, 1:]
        num_context = context.shape[1]
        x = torch.cat([context, class_token.expand(-1, num_segments, -1)], 1)
        # The context attends to itself; a segment's token attends to itself and to the patches under its mask.
        attends = torch.eye(num_context + num_segments, dtype=torch.bool, device=x.device)
        attends[:num_context, :num_context] = True
        attends[num_context:, num_context - num_patches : num_context] = patch_masks
        attn_mask = torch.zeros(attends.shape, dtype=x.dtype, device=x.device).masked_fill(~attends, -torch.inf)
        # An encoder that reads its class token needs no patches from its last layer.
        needs_patches = visual.attn_pool is not None or visual.pool_type != 'tok'
        for block in blocks[first_masked:]:
            if is_plain_block(block):
                is_last = block is blocks[-1] and not needs_patches
                x = run_masked_block(block, x, num_context, attn_mask[num_context:], is_last)
            else:
                x = block(x, attn_mask=attn_mask)
        # Pool and project as CLIP does.
        tokens = x[0, x.shape[1] - num_segments :]
        patches = x[0, num_context - num_patches : num_context]
        return self._pool(visual, tokens, patches, patch_masks) @ visual.proj

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
        # The mean over no patch is zero.
        weights = patch_masks.to(patches.dtype) / patch_masks.sum(1, keepdim=True).clamp(min=1)
        if visual.final_ln_after_pool:
            return visual.ln_post(weights @ patches)
        return weights @ visual.ln_post(patches)


def embed_patches(visual: VisionTransformer, images: Tensor, position_resize: dict) -> tuple[Tensor, tuple[int, int]]:
    """Embed images (B, 3, H, W) of any size as a vision transformer does, up to its first layer.

    Returns:
        tuple[Tensor, tuple[int, int]]: Class token and patches (B, 1 + N, c), and rows and columns of the N patches.
    """
    patches = visual.conv1(images)
    grid = tuple(patches.shape[-2:])
    # open_clip keeps parameters that are not matrices in float32.
    class_token = visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
    x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], 1)
    positions = visual.positional_embedding
    resized = resize_positions(positions[1:], visual.grid_size, grid, position_resize)
    return visual.ln_pre(x + torch.cat([positions[:1], resized.to(positions.dtype)]).to(x.dtype)), grid
