"""CLIP's opinion of all segments in one pass of its transformer (MaskCLIP of ODISE, arXiv 2303.04803, appendix)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from mmzeg.models.scorers.one_pass_scorer import OnePassScorer
from mmzeg.registry import MODELS


@MODELS.register_module()
class CLIPMaskScorer(OnePassScorer):
    """One class token a query, which attends to itself and to the patches under its mask alone.

    For open_clip's own vision transformers (OpenAI's, LAION's, MetaCLIP's, DFN's, CoCa's). What the patches make of the
    picture is as ever: no patch sees a token. A mask over the whole picture gives CLIP's own embedding.

    Args:
        clip, prompts, input_size, context, pruning, merge_iou_thr: See ``OnePassScorer``. Position embeddings are
            resized to the input.
        layers (int, optional): Only in so many last layers do tokens look under their masks; before, they are the one
            class token, which has seen everything. None: in all.
    """

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | Sequence[int] | None = None,
        context: int = 0,
        layers: int | None = None,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
    ) -> None:
        if layers is not None and layers < 1:
            raise ValueError(f'scorer layers must be 1 or more, got {layers}')
        super().__init__(clip, prompts, input_size, context, pruning, merge_iou_thr)
        self.layers = layers

    def _cell(self, visual: nn.Module) -> int:
        if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None and visual.attn_pool_contrastive:
            raise ValueError(
                f"CLIPMaskScorer needs one of open_clip's vision transformers, not {type(visual).__name__}: use "
                "type='mmzeg.CLIPDensePoolScorer'"
            )
        return visual.patch_size[0]

    def _encode(self, visual: VisionTransformer, picture: Tensor, masks: Tensor) -> Tensor:
        patches = visual.conv1(picture)
        grid = patches.shape[-2:]
        # In half precision open_clip keeps what is no matrix in float32.
        token = visual.class_embedding.to(patches.dtype).expand(1, 1, -1)
        x = torch.cat([token, patches.flatten(2).transpose(1, 2)], 1)
        x = visual.ln_pre(x + _positions(visual, grid).to(x.dtype))
        inside = self._under(masks, grid).flatten(1)
        blocks = visual.transformer.resblocks
        alone = len(blocks) - min(self.layers or len(blocks), len(blocks))
        for block in blocks[:alone]:
            x = block(x)
        length, count = x.shape[1], len(masks)
        x = torch.cat([x, x[:, :1].expand(-1, count, -1)], 1)
        seen = torch.eye(length + count, dtype=torch.bool, device=x.device)
        seen[:length, :length] = True
        seen[length:, 1:length] = inside
        bias = torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, -torch.inf)
        for block in blocks[alone:]:
            x = block(x, attn_mask=bias)
        return self._pool(visual, x[0, length:], x[0, 1:length], inside) @ visual.proj

    @staticmethod
    def _pool(visual: VisionTransformer, tokens: Tensor, patches: Tensor, inside: Tensor) -> Tensor:
        if visual.attn_pool is not None:
            pool = visual.attn_pool
            query = pool.ln_q(pool.query.to(tokens.dtype))[:1].expand(len(inside), -1)
            keys = pool.ln_k(torch.cat([tokens, patches]))
            seen = torch.cat([torch.eye(len(inside), dtype=torch.bool, device=inside.device), inside], 1)
            bias = torch.zeros_like(seen, dtype=keys.dtype).masked_fill(~seen, -torch.inf)
            return visual.ln_post(pool.attn(query, keys, keys, attn_mask=bias, need_weights=False)[0])
        if visual.pool_type == 'tok':
            return visual.ln_post(tokens)
        weights = inside.to(patches.dtype) / inside.sum(1, keepdim=True)
        if visual.final_ln_after_pool:
            return visual.ln_post(weights @ patches)
        return weights @ visual.ln_post(patches)


def _positions(visual: VisionTransformer, grid: Sequence[int]) -> Tensor:
    """(1 + h * w, d) position embeddings, resized to a grid if it is another one than the model's."""
    found = visual.positional_embedding
    if tuple(grid) == tuple(visual.grid_size):
        return found
    own = found[1:].float().view(1, *visual.grid_size, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(own, size=tuple(grid), mode='bicubic', align_corners=False, antialias=True)
    return torch.cat([found[:1], resized.flatten(2)[0].t().to(found.dtype)])
