"""ZegFormer's head: class-agnostic masks, segment embeddings and their losses (docs/en/method.md)."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn import Conv2d
from mmdet.models.layers import DetrTransformerDecoder, PixelDecoder, SinePositionalEncoding
from mmdet.utils import reduce_mean
from mmengine.model import caffe2_xavier_init
from torch import Tensor, nn

from mmzeg.models.heads.masked_decoder import MaskedDecoder
from mmzeg.models.heads.segment_targets import (
    LayerMatches,
    QueryTargets,
    SegmentTargets,
    build_query_targets,
    labelled_pixels,
    lie_on_unlabelled,
)
from mmzeg.models.heads.text_head import TextHead
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class ZegFormerHead(TextHead):
    """Predict class-agnostic masks with one embedding each, and classify the embeddings.

    It keeps the contract of an mmseg decode head (``loss``, ``predict``). It therefore also works in mmseg's own
    ``EncoderDecoder``, as ZegFormer-seg without calibration.

    Args:
        in_channels (list[int]): Channels of the four backbone maps, strides 4 to 32. ``mmzeg.ZegFormer`` reads them
            from the backbone.
        feat_channels (int): Width of the pixel decoder.
        out_channels (int): Width of mask features and mask embeddings.
        num_queries (int): Number Q of queries, each with one mask.
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
        ignore_unlabelled_in_masks (bool): True: unlabelled pixels are left out of matching costs and mask losses, and
            queries whose mask lies mostly on unlabelled pixels get no "no object" loss. False, the default, as
            released: unlabelled pixels count as background of every mask, which teaches masks to avoid unseen objects.
        masked_attention (bool): Whether queries attend only to the cells under their masks, as in Mask2Former. Defaults
            to False.
        with_cp (bool): Gradient checkpointing of pixel decoder, transformer decoder and mask losses, which takes less
            memory and more time. Defaults to False.
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
        self.no_object_weight = no_object_weight
        self.ignore_unlabelled_in_masks = ignore_unlabelled_in_masks
        self.masked_attention = masked_attention
        self.transformer_decoder = decoder
        # The plain FPN returns the raw stride-32 map; the other pixel decoders return a memory of their own width.
        is_plain_fpn = type(self.pixel_decoder) is PixelDecoder
        memory_channels = in_channels[-1] if is_plain_fpn else feat_channels
        if is_plain_fpn or memory_channels != embed_dims:
            self.decoder_input_proj = Conv2d(memory_channels, embed_dims, kernel_size=1)
        else:
            self.decoder_input_proj = nn.Identity()
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
        """Initialize every convolution and the transformer decoder by Xavier, as in the released code."""
        super().init_weights()
        if self._is_pretrained:
            return
        if isinstance(self.decoder_input_proj, Conv2d):
            caffe2_xavier_init(self.decoder_input_proj, bias=0)
        for parameter in self.transformer_decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, x: tuple[Tensor, ...], text: Tensor | None = None, last_layer_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Predict class logits and mask logits of every decoder layer.

        Args:
            x (tuple[Tensor]): Backbone maps (B, c_i, H / 4 / 2^i, W / 4 / 2^i).
            text (Tensor, optional): (C, d) unit text embeddings. Defaults to those of the test vocabulary.
            last_layer_only (bool): Whether to return only the last layer (L = 1), which is enough at test. Defaults to
                False.

        Returns:
            tuple[Tensor, Tensor]: Class logits (L, B, Q, C + 1), "no object" last, and mask logits (L, B, Q, h, w) at
            stride 4, of L decoder layers in order.
        """
        if text is None:
            text = self.classifier.text_embeddings(training=False)
        segment_embeddings, mask_logits = self.encode_segments(x, last_layer_only)
        return self.classifier(segment_embeddings, text), mask_logits

    def encode_segments(self, x: tuple[Tensor, ...], last_layer_only: bool = False) -> tuple[Tensor, Tensor]:
        """Return segment embeddings (L, B, Q, c) and mask logits (L, B, Q, h, w), without classes; see ``forward``."""
        mask_features, memory = self.decode_pixels(x)
        batch_size, _, height, width = memory.shape
        # Encode positions. The released code masks no padding, neither here nor in the attention.
        no_padding = memory.new_zeros((batch_size, height, width), dtype=torch.bool)
        position = self.decoder_pe(no_padding)
        # Project the memory to the decoder's width and flatten both to sequences.
        memory = self.decoder_input_proj(memory).flatten(2).transpose(1, 2)
        position = position.to(memory.dtype).flatten(2).transpose(1, 2)
        # Decode the queries.
        query_pos = self.query_embed.weight[None].expand(batch_size, -1, -1)
        if self.masked_attention:
            small_features = F.interpolate(mask_features, size=(height, width), mode='area').flatten(2)
            attention = dict(predict_masks=partial(self._masks_on_memory, small_features))
        else:
            attention = dict(key_padding_mask=None)
        segment_embeddings = self.maybe_checkpoint(
            self.transformer_decoder,
            query=torch.zeros_like(query_pos),
            key=memory,
            value=memory,
            query_pos=query_pos,
            key_pos=position,
            **attention,
        )
        if last_layer_only:
            segment_embeddings = segment_embeddings[-1:]
        # Compute masks as products of mask embeddings and mask features.
        mask_logits = torch.einsum('lbqc,bchw->lbqhw', self.mask_embed(segment_embeddings), mask_features)
        return segment_embeddings, mask_logits

    def _masks_on_memory(self, small_features: Tensor, segment_embeddings: Tensor) -> Tensor:
        """Return which of K memory cells are under each mask (B, Q, K), from mask features (B, c, K)."""
        return self.mask_embed(segment_embeddings) @ small_features > 0

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict) -> Tensor:
        """Return ZegFormer-seg's semantic map (B, C, H, W) at the padded input's size, not calibrated, values >= 0."""
        class_logits, mask_logits = self(x, last_layer_only=True)
        size = [4 * side for side in x[0].shape[-2:]]
        seg_probs = class_logits[-1].softmax(-1)[..., :-1]
        return assemble_semantic_map(seg_probs, mask_logits[-1], size)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict) -> dict[str, Tensor]:
        """Return the losses of every decoder layer: ``loss_cls``, ``loss_mask``, ``loss_dice``.

        Layers before the last have the prefix ``dN.``, N from 0.

        Args:
            x (tuple[Tensor]): Backbone maps, see ``forward``.
            batch_data_samples (list[SegDataSample]): With ``gt_sem_seg`` (1, H, W), values in the training
                vocabulary's range or ``ignore_index``.
            train_cfg (dict): Unused; part of mmseg's contract.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
            FloatingPointError: A matching cost is not finite.
        """
        # Read the ground truth first: what waits for the device waits for the backbone only.
        targets = self.build_targets(batch_data_samples)
        class_logits, mask_logits = self(x, self.classifier.text_embeddings(training=True))
        # Match the queries of every layer with the targets.
        query_targets = self.query_targets(class_logits, mask_logits, targets)
        # Normalize mask losses by the number of masks, averaged over processes.
        num_masks = class_logits.new_full((), len(targets.labels), dtype=torch.float32)
        num_masks = reduce_mean(num_masks).clamp(min=1)
        # Compute the losses of every layer; the last layer's have no prefix.
        losses = {}
        last_layer = len(query_targets) - 1
        layers = zip(class_logits.unbind(), mask_logits.unbind(), query_targets, strict=True)
        for layer, (layer_class_logits, layer_mask_logits, layer_targets) in enumerate(layers):
            layer_losses = self._layer_loss(layer_class_logits, layer_mask_logits, layer_targets, targets, num_masks)
            prefix = '' if layer == last_layer else f'd{layer}.'
            losses.update({prefix + name: loss for name, loss in layer_losses.items()})
        return losses

    def build_targets(self, samples: Sequence) -> SegmentTargets:
        """Return the targets of a batch: a label and a binary mask for every class that is present in an image.

        Args:
            samples (Sequence[SegDataSample]): See ``loss``.

        Raises:
            ValueError: A label value outside the training vocabulary; names it and the file.
        """
        label_maps = torch.cat([sample.gt_sem_seg.data for sample in samples])
        present_labels = self.present_labels(label_maps, samples)
        is_labelled = label_maps != self.ignore_index if self.ignore_unlabelled_in_masks else None
        return SegmentTargets.build(label_maps, present_labels, is_labelled)

    def query_targets(self, class_logits: Tensor, mask_logits: Tensor, targets: SegmentTargets) -> list[QueryTargets]:
        """Return what the queries of every layer learn; arguments as of ``match``.

        Matched queries learn their target's class and mask, the others "no object" with a lower weight.
        """
        is_unknown = None
        if targets.is_labelled is not None:
            is_unknown = lie_on_unlabelled(mask_logits, targets.is_labelled)
        return build_query_targets(
            self.match(class_logits, mask_logits, targets),
            targets,
            num_queries=class_logits.shape[2],
            num_classes=class_logits.shape[3] - 1,
            no_object_weight=self.no_object_weight,
            is_unknown=is_unknown,
        )

    @torch.no_grad()
    def match(self, class_logits: Tensor, mask_logits: Tensor, targets: SegmentTargets) -> list[LayerMatches]:
        """Match queries and targets in every layer of every image, with one transfer of all costs to the host.

        Args:
            class_logits (Tensor): (L, B, Q, C + 1).
            mask_logits (Tensor): (L, B, Q, h, w).
            targets (SegmentTargets): Of the B images.

        Returns:
            list[LayerMatches]: For every layer and image, query indices and target indices of that image.
        """
        num_layers, _, num_queries = class_logits.shape[:3]
        # The ground truth at the masks' resolution: every value is that of the nearest pixel.
        small_label_maps = F.interpolate(targets.label_maps[:, None].float(), size=mask_logits.shape[-2:])[:, 0]
        pixels = None
        if targets.is_labelled is not None:
            pixels = labelled_pixels(small_label_maps != self.ignore_index)
        costs = []
        for image, labels in enumerate(targets.labels.split(targets.num_targets)):
            # The queries of all layers of one image, and its targets.
            image_class_logits = class_logits[:, image].flatten(0, 1)
            image_mask_logits = mask_logits[:, image].flatten(0, 1)
            masks = small_label_maps[image] == labels[:, None, None]
            # Keep labelled pixels only, if there are any.
            if pixels is not None and len(pixels[image]):
                image_mask_logits = image_mask_logits.flatten(1)[:, None, pixels[image]]
                masks = masks.flatten(1)[:, None, pixels[image]]
            cost = self.assigner.cost(image_class_logits, image_mask_logits, labels, masks)
            costs.extend(cost.split(num_queries))
        # Solve all images and layers with one transfer to the host, then sort by layer.
        matches = self.assigner.solve(costs)
        return [matches[layer::num_layers] for layer in range(num_layers)]

    def _layer_loss(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        query_targets: QueryTargets,
        targets: SegmentTargets,
        num_masks: Tensor,
    ) -> dict[str, Tensor]:
        """Return the losses of one layer, from class logits (B, Q, C + 1) and mask logits (B, Q, h, w)."""
        loss_cls = self.loss_cls(
            class_logits.flatten(0, 1).float(),
            query_targets.labels.flatten(),
            query_targets.weights.flatten(),
            avg_factor=query_targets.weights.sum().clamp(min=1e-6),
        )
        # Masks: compare every matched query's mask with its target's.
        if len(query_targets.queries) == 0:
            # Zero, but part of the graph: distributed training needs a gradient for every parameter.
            zero = mask_logits.sum() * 0
            return dict(loss_cls=loss_cls, loss_mask=zero, loss_dice=zero)
        matched_logits = mask_logits.flatten(0, 1).index_select(0, query_targets.queries)
        target_masks = targets.masks.index_select(0, query_targets.targets)
        is_labelled = None
        if targets.is_labelled is not None:
            images = query_targets.queries // mask_logits.shape[1]
            is_labelled = targets.is_labelled.index_select(0, images)
        loss_mask, loss_dice = self.maybe_checkpoint(
            self._mask_losses, matched_logits, target_masks, is_labelled, num_masks
        )
        return dict(loss_cls=loss_cls, loss_mask=loss_mask, loss_dice=loss_dice)

    def _mask_losses(
        self, mask_logits: Tensor, target_masks: Tensor, is_labelled: Tensor | None, num_masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return focal and dice loss of mask logits (N, h, w) against targets (N, H, W)."""
        size = target_masks.shape[-2:]
        mask_logits = F.interpolate(mask_logits[None].float(), size=size, mode='bilinear', align_corners=False)[0]
        mask_weights = None
        if is_labelled is not None:
            # On unlabelled pixels the sigmoid becomes 0, which is the target there: both losses are 0. The weight makes
            # the focal loss a mean over the labelled pixels.
            mask_logits = mask_logits.masked_fill(~is_labelled, -1e4)
            mask_weights = 1 / is_labelled.float().mean((1, 2))
        mask_logits = mask_logits.flatten(1)
        target_masks = target_masks.flatten(1).float()
        num_pixels = target_masks.shape[1]
        loss_mask = self.loss_mask(mask_logits, target_masks, mask_weights, avg_factor=num_masks * num_pixels)
        return loss_mask, self.loss_dice(mask_logits, target_masks, avg_factor=num_masks)
