"""Class-agnostic grouping (paper section 3.2; reference "The model", steps 2 to 5) and its losses."""

import torch
import torch.nn.functional as F
from mmcv.cnn import Conv2d
from mmdet.models.layers import DetrTransformerDecoder, PixelDecoder, SinePositionalEncoding
from mmdet.utils import reduce_mean
from mmengine.model import caffe2_xavier_init
from torch import Tensor, nn

from mmzeg.models.heads.masked_decoder import MaskedDecoder
from mmzeg.models.heads.text_head import TextHead
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class ZegFormerHead(TextHead):
    """Groups pixels into segments and hands every segment's embedding to the classifier.

    It keeps the contract of an mmseg decode head (``loss``, ``predict``), so it also works in mmseg's own
    ``EncoderDecoder``, as ZegFormer-seg without calibration.

    Args:
        in_channels (list[int]): Channels of the four backbone maps, strides 4 to 32. ``mmzeg.ZegFormer`` reads them
            from the backbone.
        feat_channels (int): Width of the pixel decoder.
        out_channels (int): Width of mask features and mask embeddings.
        num_queries (int): Number Q of segments.
        pixel_decoder (dict): mmdet's ``PixelDecoder``, ``TransformerEncoderPixelDecoder`` or
            ``MSDeformAttnPixelDecoder``; channels are filled in.
        transformer_decoder (dict): Arguments of mmdet's ``DetrTransformerDecoder``.
        positional_encoding (dict): Arguments of mmdet's ``SinePositionalEncoding``.
        classifier (dict): ``mmzeg.CLIPTextClassifier``; its ``in_channels`` are filled in.
        assigner (dict): ``mmzeg.HungarianAssigner``.
        loss_cls (dict): Classification loss.
        loss_mask (dict): Focal loss of matched masks.
        loss_dice (dict): Dice loss of matched masks.
        no_object_weight (float): Weight of "no object" in ``loss_cls``. Defaults to 0.1.
        ignore_unlabelled_in_masks (bool): Only labelled pixels speak: the others are left out of matching costs and mask losses,
            and a query whose mask lies mostly on them is not taught "no object". As released (False) they count as
            background of every mask, which teaches masks to keep out of the unseen.
        masked_attention (bool): Queries look where their masks are, as in Mask2Former, rather than everywhere.
        with_cp (bool): Gradient checkpointing: pixel decoder, transformer decoder and mask losses are reckoned again
            for their gradients rather than kept, which takes less memory and more time. Defaults to False.
        ignore_index (int): Label value that no target covers. Defaults to 255.
    """

    def __init__(
        self,
        in_channels: list[int],
        feat_channels: int,
        out_channels: int,
        num_queries: int,
        pixel_decoder: dict,
        transformer_decoder: dict,
        positional_encoding: dict,
        classifier: dict,
        assigner: dict,
        loss_cls: dict,
        loss_mask: dict,
        loss_dice: dict,
        no_object_weight: float = 0.1,
        ignore_unlabelled_in_masks: bool = False,
        masked_attention: bool = False,
        with_cp: bool = False,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        decoder = (MaskedDecoder if masked_attention else DetrTransformerDecoder)(**transformer_decoder)
        embed_dims = decoder.embed_dims
        super().__init__(
            in_channels=in_channels,
            feat_channels=feat_channels,
            out_channels=out_channels,
            pixel_decoder=pixel_decoder,
            classifier=dict(classifier, in_channels=embed_dims, no_object=True),
            with_cp=with_cp,
            ignore_index=ignore_index,
            init_cfg=init_cfg,
        )
        self.no_object_weight, self.ignore_unlabelled_in_masks = no_object_weight, ignore_unlabelled_in_masks
        self.masked_attention = masked_attention
        self.transformer_decoder = decoder
        # Only the plain FPN hands on the raw stride-32 map; the others hand on a memory of their own width.
        plain = type(self.pixel_decoder) is PixelDecoder
        memory_channels = in_channels[-1] if plain else feat_channels
        self.decoder_input_proj = (
            Conv2d(memory_channels, embed_dims, kernel_size=1)
            if plain or memory_channels != embed_dims
            else nn.Identity()
        )
        self.decoder_pe = SinePositionalEncoding(**positional_encoding)
        self.query_embed = nn.Embedding(num_queries, embed_dims)
        self.mask_embed = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, out_channels),
        )
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def init_weights(self) -> None:
        """Xavier for every convolution and the transformer decoder, as released."""
        super().init_weights()
        if self._from_file:
            return
        if isinstance(self.decoder_input_proj, Conv2d):
            caffe2_xavier_init(self.decoder_input_proj, bias=0)
        for parameter in self.transformer_decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, x: tuple[Tensor, ...], text: Tensor | None = None, last_layer_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Segments of every decoder layer.

        Args:
            x (tuple[Tensor]): Backbone maps (B, c_i, H / 4 / 2^i, W / 4 / 2^i).
            text (Tensor, optional): (C, d) unit text embeddings. Defaults to those of the test vocabulary.
            last_layer_only (bool): Of the last layer alone (L = 1), which is all that a test reads. Defaults to False.

        Returns:
            tuple[Tensor, Tensor]: Class logits (L, B, Q, C + 1), "no object" last, and mask logits (L, B, Q, h, w) at
            stride 4; L decoder layers, the last one last.
        """
        if text is None:
            text = self.classifier.text_embeddings(training=False)
        segments, mask_logits = self.segments(x, last_layer_only)
        return self.classifier(segments, text), mask_logits

    def segments(self, x: tuple[Tensor, ...], last_layer_only: bool = False) -> tuple[Tensor, Tensor]:
        """Segments before they are named: embeddings (L, B, Q, c) and mask logits (L, B, Q, h, w); see ``forward``."""
        mask_features, memory = self.decode_pixels(x)
        batch, _, height, width = memory.shape
        # The released code masks no padding, neither here nor in the position encoding.
        position = self.decoder_pe(memory.new_zeros((batch, height, width), dtype=torch.bool))
        memory = self.decoder_input_proj(memory).flatten(2).transpose(1, 2)
        position = position.to(memory.dtype).flatten(2).transpose(1, 2)
        query_pos = self.query_embed.weight[None].expand(batch, -1, -1)
        if self.masked_attention:
            small = F.interpolate(mask_features, size=(height, width), mode='area').flatten(2)
            rest = dict(inside=lambda segments: self.mask_embed(segments) @ small > 0)
        else:
            rest = dict(key_padding_mask=None)
        segments = self.maybe_checkpoint(
            self.transformer_decoder,
            query=torch.zeros_like(query_pos),
            key=memory,
            value=memory,
            query_pos=query_pos,
            key_pos=position,
            **rest,
        )
        if last_layer_only:
            segments = segments[-1:]
        return segments, torch.einsum('lbqc,bchw->lbqhw', self.mask_embed(segments), mask_features)

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Semantic map of ZegFormer-seg, uncalibrated: (B, C, H, W) at the padded input's size, values >= 0."""
        class_logits, mask_logits = self(x, last_layer_only=True)
        size = [4 * side for side in x[0].shape[-2:]]
        return assemble_semantic_map(class_logits[-1].softmax(-1)[..., :-1], mask_logits[-1], size)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict) -> dict[str, Tensor]:
        """Losses of every decoder layer: ``loss_cls``, ``loss_mask``, ``loss_dice``, and ``dN.`` for layer N's.

        Args:
            x (tuple[Tensor]): Backbone maps, see ``forward``.
            batch_data_samples (list[SegDataSample]): With ``gt_sem_seg`` (1, H, W), values in the training
                vocabulary's range or ``ignore_index``.
            train_cfg (dict): Unused; mmseg's contract.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
            FloatingPointError: A matching cost is not finite.
        """
        class_logits, mask_logits = self(x, self.classifier.text_embeddings(training=True))
        targets = [self._targets(sample) for sample in batch_data_samples]
        matches = self.match(class_logits, mask_logits, targets)
        losses = {}
        last = len(matches) - 1
        num_masks = sum(len(labels) for labels, _, _ in targets)
        num_masks = reduce_mean(class_logits.new_tensor(float(num_masks), dtype=torch.float32)).clamp(min=1)
        for layer, match in enumerate(matches):
            prefix = '' if layer == last else f'd{layer}.'
            found = self._layer_loss(class_logits[layer], mask_logits[layer], targets, match, num_masks)
            losses.update({prefix + name: value for name, value in found.items()})
        return losses

    def _targets(self, sample) -> tuple[Tensor, Tensor, Tensor | None]:
        """Labels (N,) and binary masks (N, H, W) of one image's classes; the pixels that speak (H, W), None for all."""
        labels, label_map = self.present_labels(sample), sample.gt_sem_seg.data
        labelled = label_map[0] != self.ignore_index if self.ignore_unlabelled_in_masks else None
        return labels, label_map == labels[:, None, None], labelled

    @torch.no_grad()
    def match(self, class_logits: Tensor, mask_logits: Tensor, targets: list) -> list[list[tuple[Tensor, Tensor]]]:
        """Query and target indices, for every layer of every image, of (L, B, Q, C + 1) and (L, B, Q, h, w) logits."""
        layers, _, queries = class_logits.shape[:3]
        costs = []
        for index, (labels, masks, labelled) in enumerate(targets):
            segments, shown = class_logits[:, index].flatten(0, 1), mask_logits[:, index].flatten(0, 1)
            size = shown.shape[-2:]
            masks = F.interpolate(masks[None].float(), size=size)[0] if len(labels) else shown.new_zeros(0, *size)
            inside = None if labelled is None else F.interpolate(labelled[None, None].float(), size=size)[0, 0] > 0
            if inside is not None and inside.any():
                shown, masks = shown[:, None, inside], masks[:, None, inside]
            cost = self.assigner.cost(segments, shown, labels, masks)
            costs += cost.view(layers, queries, -1).unbind() if len(labels) else cost.split(queries)
        found = self.assigner.solve(costs)
        return [found[layer::layers] for layer in range(layers)]

    def _layer_loss(
        self, class_logits: Tensor, mask_logits: Tensor, targets: list, matches: list, num_masks: Tensor
    ) -> dict[str, Tensor]:
        no_object = class_logits.shape[-1] - 1
        wanted = class_logits.new_full(class_logits.shape[:2], no_object, dtype=torch.long)
        for image, (queries, indices) in enumerate(matches):
            wanted[image, queries] = targets[image][0][indices]
        weights = torch.where(wanted == no_object, self.no_object_weight, 1.0)
        if self.ignore_unlabelled_in_masks:
            weights = weights.masked_fill((wanted == no_object) & self._on_unlabelled(mask_logits, targets), 0.0)
        loss_cls = self.loss_cls(
            class_logits.flatten(0, 1).float(),
            wanted.flatten(),
            weights.flatten(),
            avg_factor=weights.sum().clamp(min=1e-6),
        )
        chosen = torch.cat([mask_logits[image, queries] for image, (queries, _) in enumerate(matches)])
        if len(chosen) == 0:
            # Zero, yet tied to the graph, so that every parameter has a gradient in distributed training.
            nothing = mask_logits.sum() * 0
            return dict(loss_cls=loss_cls, loss_mask=nothing, loss_dice=nothing)
        masks = torch.cat([targets[image][1][indices] for image, (_, indices) in enumerate(matches)])
        labelled = None
        if self.ignore_unlabelled_in_masks:
            labelled = torch.cat(
                [targets[image][2].expand(len(queries), -1, -1) for image, (queries, _) in enumerate(matches)]
            )
        found = self.maybe_checkpoint(self._mask_losses, chosen, masks, labelled, num_masks)
        return dict(loss_cls=loss_cls, loss_mask=found[0], loss_dice=found[1])

    def _mask_losses(
        self, chosen: Tensor, masks: Tensor, labelled: Tensor | None, num_masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss of mask logits (N, h, w) with their targets (N, H, W)."""
        chosen = F.interpolate(chosen[None].float(), size=masks.shape[-2:], mode='bilinear', align_corners=False)[0]
        per_mask = None
        if labelled is not None:
            # The sigmoid of it is 0, as its target is: neither loss sees it, and the mean is over what is left.
            chosen = chosen.masked_fill(~labelled, -1e4)
            per_mask = 1 / labelled.float().mean((1, 2))
        chosen, masks = chosen.flatten(1), masks.flatten(1).float()
        loss_mask = self.loss_mask(chosen, masks, per_mask, avg_factor=num_masks * masks.shape[1])
        return loss_mask, self.loss_dice(chosen, masks, avg_factor=num_masks)

    @staticmethod
    @torch.no_grad()
    def _on_unlabelled(mask_logits: Tensor, targets: list) -> Tensor:
        """(B, Q) bool: masks that lie for the greater part where there is no label; it cannot say "no object" there."""
        found = []
        for masks, (_, _, labelled) in zip(mask_logits > 0, targets, strict=True):
            bare = F.interpolate(labelled[None, None].float(), size=masks.shape[-2:])[0, 0] == 0
            found.append(2 * (masks & bare).sum((1, 2)) > masks.sum((1, 2)))
        return torch.stack(found)
