"""CLIP logits of all segments from one dense feature map, pooled under each mask (FC-CLIP, arXiv 2308.02487)."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from mmzeg.clip.feature_maps import pooled_map
from mmzeg.models.backbones import CLIPBackbone
from mmzeg.models.scorers.dense_attention import LAST_ATTENTIONS, dense_patches, has_dense_attention
from mmzeg.models.scorers.one_pass_scorer import MasksOnGrid, OnePassScorer
from mmzeg.models.scorers.position_embeddings import resize_positions
from mmzeg.registry import MODELS

# Segments per pass of timm's attention pool.
ATTENTION_POOL_CHUNK_SIZE = 8
# How open_clip resizes position embeddings.
OPEN_CLIP_POSITIONS = dict(mode='bicubic', antialias=True)
# Whose mean is the query of a ResNet's attention pool.
ATTN_POOL_QUERIES = ('mask', 'image')


@MODELS.register_module()
class CLIPDensePoolScorer(OnePassScorer):
    """Pool CLIP's last feature map under each mask.

    For convolutional CLIPs (OpenAI's ResNets, timm's ConvNeXt and others), for timm's transformers (SigLIP, EVA), whose
    input size is fixed, and with ``last_attention`` for open_clip's own vision transformers.

    By default a mask over the complete image gives CLIP's own embedding. An encoder that reads a class token is the
    exception: there the mean of the patches takes the token's part. ``configs/_base_/scorers`` holds the published
    settings of FC-CLIP, NACLIP and ClearCLIP.

    Args:
        clip, prompts, pruning, merge_iou_thr, logit_scale: See ``OnePassScorer``.
        input_size, mask_dilation, antialias, mask_resize, position_resize: See ``OnePassScorer``.
        empty_mask (str): What a mask that covers no cell gives. ``best_cell`` (default): the features of the cell where
            its value is the highest. ``zero_features``: zeros are pooled, as in FC-CLIP with a ConvNeXt.
            ``zero_embedding``: an embedding of zeros, and so equal logits for all classes; ``ScoreFusion`` with
            ``ensemble_on_valid_mask`` leaves such a segment to the head. FC-CLIP gives NaN here with a ResNet.
        attn_pool_query (str): For ResNets, whose mean attends to the cells under the mask. ``mask`` (default): the mean
            of these cells, which is also a key, as CLIP pools an image. ``image``: the mean of the complete map, which
            is no key (FC-CLIP).
        last_attention (str, optional): For open_clip's vision transformers, what is compared in the last layer:
            ``key-key`` (NACLIP) or ``query-query`` (ClearCLIP). Defaults to None: these encoders are refused.
        neighborhood_std (float, optional): Standard deviation of the Gaussian window that NACLIP adds to the attention
            of the last layer, in patches; published: 5. Defaults to None: no window.

    Raises:
        ValueError: An unknown value, or as ``OnePassScorer``.
    """

    EMPTY_MASKS = ('best_cell', 'zero_features', 'zero_embedding')

    def __init__(
        self,
        clip: dict,
        prompts: str | Sequence[str] = 'imagenet_select_clip',
        input_size: int | tuple[int, int] | str | list | None = None,
        mask_dilation: int = 0,
        antialias: bool = True,
        mask_resize: str = 'area',
        position_resize: Mapping[str, object] = OPEN_CLIP_POSITIONS,
        empty_mask: str = 'best_cell',
        attn_pool_query: str = 'mask',
        last_attention: str | None = None,
        neighborhood_std: float | None = None,
        pruning: dict | None = None,
        merge_iou_thr: float | None = None,
        logit_scale: float | None = None,
    ) -> None:
        if attn_pool_query not in ATTN_POOL_QUERIES:
            raise ValueError(
                f'scorer attn_pool_query {attn_pool_query!r} is unknown: use one of {", ".join(ATTN_POOL_QUERIES)}'
            )
        if last_attention is not None and last_attention not in LAST_ATTENTIONS:
            raise ValueError(
                f'scorer last_attention {last_attention!r} is unknown: use one of {", ".join(LAST_ATTENTIONS)}'
            )
        if neighborhood_std is not None and not neighborhood_std > 0:
            raise ValueError(f'scorer neighborhood_std must be above 0 patches, or None, got {neighborhood_std}')
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
        self.attn_pool_query = attn_pool_query
        self.last_attention = last_attention
        self.neighborhood_std = neighborhood_std

    def reuses_features(self, backbone: nn.Module) -> bool:
        """Return whether the backbone is this scorer's CLIP at this scorer's input size, ``image``."""
        is_shared = isinstance(backbone, CLIPBackbone) and self.clip.is_same(backbone.clip)
        return is_shared and self.input_sizes == ['image']

    def encode_batch(
        self,
        images: Sequence[Tensor],
        mask_logits: Sequence[Tensor],
        valid_sizes: Sequence[tuple[int, int]],
        features: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return (V, Q, d) embeddings; see ``OnePassScorer``.

        With ``features``, the last maps (c, h, w) of a ``CLIPBackbone``, CLIP does not run again. These maps cover the
        padding, and so do the masks that are pooled, as in FC-CLIP.
        """
        if features is None:
            return super().encode_batch(images, mask_logits, valid_sizes)
        embeddings = []
        for image, logits, last_map in zip(images, mask_logits, features, strict=True):
            size = tuple(image.shape[-2:])
            masks = self._masks_on_grid(logits, size, size, last_map.shape[-2:])
            with self.clip.on(last_map.device) as network:
                visual = network.visual
                dense = pooled_map(visual, last_map[None].to(self.clip.dtype_on(last_map.device)))[0]
                embeddings.append(self.pool(visual, dense, masks).float()[None])
        return embeddings

    def pool(self, visual: nn.Module, features: Tensor, masks: Tensor) -> Tensor:
        """Pool the map of a convolutional encoder under masks.

        Args:
            visual (nn.Module): CLIP's image encoder.
            features (Tensor): (c, h, w), the map of one image that the encoder pools: the output of its last stage,
                and in a ConvNeXt of ``trunk.norm_pre``, which is the identity in all published models.
            masks (Tensor): (Q, h, w) bool.

        Returns:
            Tensor: (Q, d) embeddings, not normalized.
        """
        if isinstance(visual, ModifiedResNet):
            embeddings = self._attention_pool(visual.attnpool, features, masks)
        else:
            pooled = _mean_weights(masks, features.dtype) @ features.flatten(1).t()
            # The trunk's own pooling of a single cell is that cell.
            embeddings = visual.head(visual.trunk.forward_head(pooled[:, :, None, None]))
        return self._without_empty_masks(embeddings, masks)

    def _cell_size(self, visual: nn.Module) -> int | None:
        if isinstance(visual, ModifiedResNet):
            self._refuse_zero_features('a ResNet')
            return 32
        if has_dense_attention(visual):
            if self.last_attention is None:
                raise ValueError(
                    "CLIPDensePoolScorer pools the patches of open_clip's vision transformers only with last_attention="
                    "'key-key' or 'query-query': set it, or use type='mmzeg.CLIPMaskScorer'"
                )
            return visual.patch_size[0]
        if not isinstance(visual, TimmModel) or hasattr(visual.head, 'pool'):
            raise ValueError(
                f"CLIPDensePoolScorer cannot pool {type(visual).__name__} under masks: use type='mmzeg.CLIPMaskScorer' "
                "or 'mmzeg.CLIPCropScorer'"
            )
        if _is_timm_transformer(visual):
            if getattr(visual.trunk, 'attn_pool', None) is not None:
                self._refuse_zero_features('attention pooling')
            return None
        return visual.trunk.feature_info[-1]['reduction']

    def _refuse_zero_features(self, encoder: str) -> None:
        if self.empty_mask == 'zero_features':
            raise ValueError(
                f"scorer empty_mask='zero_features' is undefined for {encoder}, whose attention needs a cell: use "
                "'zero_embedding' or 'best_cell'"
            )

    def _encode_masks(self, visual: nn.Module, images: Tensor, on_grids: Sequence[MasksOnGrid]) -> list[Tensor]:
        # Features of all images, and how one image's are pooled.
        if has_dense_attention(visual):
            features, grid = dense_patches(
                visual, images, self.position_resize, self.last_attention, self.neighborhood_std
            )
            pool = self._pool_patches
        elif _is_timm_transformer(visual):
            features = visual.trunk.forward_features(images)
            grid = visual.trunk.patch_embed.grid_size
            pool = partial(self._pool_timm_tokens, visual)
        else:
            features = _dense_map(visual, images)
            grid = features.shape[-2:]
            pool = partial(self.pool, visual)
        return [pool(*pair) for pair in zip(features, (on_grid(grid) for on_grid in on_grids), strict=True)]

    def _pool_patches(self, patches: Tensor, masks: Tensor) -> Tensor:
        """Return (Q, d) embeddings of patches (N, d) in CLIP's joint space under masks (Q, h, w)."""
        return self._without_empty_masks(_mean_weights(masks, patches.dtype) @ patches, masks)

    def _pool_timm_tokens(self, visual: TimmModel, tokens: Tensor, masks: Tensor) -> Tensor:
        """Return (Q, d) embeddings of a timm transformer's tokens (L, c) under masks (Q, h, w)."""
        return self._without_empty_masks(visual.head(_pool_tokens(visual, tokens[None], masks)), masks)

    def _without_empty_masks(self, embeddings: Tensor, masks: Tensor) -> Tensor:
        """Return embeddings (Q, d), zero for masks (Q, h, w) without a cell if ``empty_mask`` is ``zero_embedding``."""
        if self.empty_mask != 'zero_embedding':
            return embeddings
        has_cells = masks.flatten(1).any(1, keepdim=True)
        return torch.where(has_cells, embeddings, torch.zeros_like(embeddings))

    def _attention_pool(self, pool: AttentionPool2d, features: Tensor, masks: Tensor) -> Tensor:
        """Pool features (c, h, w) by CLIP's attention pool under masks (Q, h, w): a mean attends to the cells.

        Returns:
            Tensor: (Q, d).
        """
        num_heads = pool.num_heads
        cells = features.flatten(1).t()
        # The mean of the cells, with the position embedding of CLIP's mean token.
        if self.attn_pool_query == 'mask':
            mean = _mean_weights(masks, cells.dtype) @ cells
        else:
            mean = cells.mean(0).expand(len(masks), -1)
        position = pool.positional_embedding
        mean = mean + position[0].to(cells.dtype)
        # Add the cells' position embeddings.
        side = round((len(position) - 1) ** 0.5)
        resized = resize_positions(position[1:], (side, side), features.shape[-2:], self.position_resize)
        cells = cells + resized.to(cells.dtype)

        def split_heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (num_heads, -1)).transpose(0, 1)

        # The mean attends to the cells under its mask, and to itself if it is a key.
        query = split_heads(pool.q_proj(mean)) * (mean.shape[1] // num_heads) ** -0.5
        logits = query @ split_heads(pool.k_proj(cells)).transpose(1, 2)
        logits = logits.masked_fill(~masks.flatten(1), -torch.inf)
        values = split_heads(pool.v_proj(cells))
        if self.attn_pool_query == 'mask':
            mean_logits = (query * split_heads(pool.k_proj(mean))).sum(-1, keepdim=True)
            attention = torch.cat([mean_logits, logits], -1).softmax(-1)
            pooled = attention[..., :1] * split_heads(pool.v_proj(mean)) + attention[..., 1:] @ values
        else:
            pooled = logits.softmax(-1) @ values
        return pool.c_proj(pooled.transpose(0, 1).flatten(1))


def _dense_map(visual: nn.Module, images: Tensor) -> Tensor:
    """Return the map (B, c, h, w) that a convolutional encoder pools, for images (B, 3, H, W)."""
    if isinstance(visual, ModifiedResNet):
        return visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
    return visual.trunk.forward_features(images)


def _is_timm_transformer(visual: nn.Module) -> bool:
    """Return whether an image encoder is a vision transformer of timm's, such as SigLIP's and EVA's."""
    return isinstance(visual, TimmModel) and hasattr(visual.trunk, 'blocks') and hasattr(visual.trunk, 'pos_embed')


def _pool_tokens(visual: TimmModel, x: Tensor, masks: Tensor) -> Tensor:
    """Return (Q, c) features of a timm transformer's tokens (1, L, c) under masks (Q, h, w)."""
    trunk = visual.trunk
    num_prefix = trunk.num_prefix_tokens
    if getattr(trunk, 'attn_pool', None) is not None:
        num_pooled_prefix = num_prefix if trunk.pool_include_prefix else 0
        token_masks = F.pad(masks.flatten(1), (num_pooled_prefix, 0), value=True)
        tokens = x if trunk.pool_include_prefix else x[:, num_prefix:]
        pooled = [
            trunk.attn_pool(tokens.expand(len(chunk), -1, -1), attn_mask=chunk[:, None, None])
            for chunk in token_masks.split(ATTENTION_POOL_CHUNK_SIZE)
        ]
        return trunk.head(trunk.head_drop(trunk.fc_norm(torch.cat(pooled))))
    pooled = _mean_weights(masks, x.dtype) @ x[0, num_prefix:]
    return trunk.forward_head(pooled[:, None].expand(-1, num_prefix + 1, -1))


def _mean_weights(masks: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights (Q, N) that average the N cells under each mask (Q, h, w); zeros for a mask without cells."""
    masks = masks.flatten(1)
    return masks.to(dtype) / masks.sum(1, keepdim=True).clamp(min=1)
