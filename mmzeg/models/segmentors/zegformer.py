"""ZegFormer: from images to segments to scores to the semantic map (paper figure 2)."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmzeg.models.calibration import calibrate
from mmzeg.models.channel_order import converts_to_rgb
from mmzeg.models.compilation import compile_networks
from mmzeg.models.device_copies import seen_in_host_memory
from mmzeg.models.execution import Execution
from mmzeg.models.image_sizes import ImageSizes, valid_size
from mmzeg.models.label_map import label_map
from mmzeg.models.scorers.base_scorer import BaseScorer
from mmzeg.models.scorers.build import build_scorer
from mmzeg.models.scorers.mask_merging import merge_similar_masks
from mmzeg.models.scorers.pruning import GuaranteedPruning, PruningState
from mmzeg.models.segmentors.zero_shot_segmentor import ZeroShotSegmentor
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.registry import MODELS


@MODELS.register_module()
class ZegFormer(ZeroShotSegmentor):
    """ZegFormer on any mmseg backbone with four output maps.

    A checkpoint holds the trained weights only: no CLIP, no vocabulary.

    Args:
        backbone (dict): An mmseg backbone with outputs at strides 4 to 32.
        decode_head (dict): ``mmzeg.ZegFormerHead``; ``in_channels`` default to the backbone's channels.
        scorer (dict, optional): A ``BaseScorer`` for CLIP logits at test, e.g. ``mmzeg.CLIPCropScorer``. Needed unless
            the fusion mode is ``seg``.
        fusion (dict, optional): Arguments of ``mmzeg.models.ScoreFusion``.
        execution (str | dict): How inference is cut into tensor operations: ``auto``, ``tiled`` or ``batched``, or
            arguments of ``mmzeg.models.Execution``. The results are the same up to rounding. Defaults to ``auto``.
        compile (dict, optional): Arguments of ``torch.compile`` for the networks, ``{}`` for its defaults, see
            ``mmzeg.models.compilation.compile_networks``. Defaults to None: not compiled.
        kwargs: What mmseg's ``EncoderDecoder`` takes. ``test_cfg=dict(return_logits=False)`` keeps memory
            independent of the number of classes; results have no ``seg_logits``. It applies to images tested as a whole
            and not flipped.

    Raises:
        ValueError: The fusion mode needs a scorer and there is none; the scorer is not a ``BaseScorer``;
            ``GuaranteedPruning`` with a ``test_cfg.mode`` other than ``whole``; or a field of ``execution`` or
            ``compile`` is not valid.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        scorer: dict | None = None,
        fusion: dict | None = None,
        execution: str | dict = 'auto',
        compile: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone=backbone, decode_head=decode_head, **kwargs)
        self.execution = Execution.build(execution)
        self.fusion = MODELS.build(dict(type='mmzeg.ScoreFusion') | dict(fusion or {}))
        # Not a module: its frozen CLIP is neither trained, nor moved by the runner, nor saved.
        self.scorer: BaseScorer | None = None if scorer is None else build_scorer(scorer)
        if self.fusion.needs_scorer and self.scorer is None:
            raise ValueError(f"fusion mode {self.fusion.mode!r} needs CLIP logits: set model.scorer, or mode='seg'")
        is_guaranteed = self.scorer is not None and isinstance(self.scorer.pruning, GuaranteedPruning)
        if is_guaranteed and self.test_cfg.mode != 'whole':
            raise ValueError(
                "GuaranteedPruning needs images tested as a whole: set model.test_cfg.mode='whole', or use "
                'ThresholdPruning'
            )
        if compile is not None:
            compile_networks(self, self.scorer, compile)

    def predict_logits(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Predict the segments of a batch and their logits.

        Args:
            inputs (Tensor): (B, 3, H, W) normalized and padded images.
            batch_img_metas (list[dict]): mmseg's meta information of the images.

        Returns:
            tuple[Tensor, Tensor, Tensor | None]: Class logits (B, Q, C + 1), mask logits (B, Q, h, w), and CLIP logits
            (B, Q, C), None where the fusion mode does not need them.
        """
        features = self.extract_features(inputs, batch_img_metas)
        class_logits, mask_logits = self.decode_head(features, last_layer_only=True)
        class_logits = class_logits[-1].float()
        mask_logits = mask_logits[-1].float()
        if not self.fusion.needs_scorer:
            return class_logits, mask_logits, None
        with single_precision(inputs):
            reused = self._reused_features(features)
            clip_logits = self._clip_logits(inputs, class_logits, mask_logits, batch_img_metas, reused)
        return class_logits, mask_logits, clip_logits

    def encode_segments(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        """Encode the segments of a batch without any class name; arguments as of ``predict_logits``.

        The classifier's ``forward`` and the scorer's ``classify`` turn the embeddings into the logits that
        ``predict_logits`` returns without pruning.

        Returns:
            tuple[Tensor, Tensor, list[Tensor] | None]: Segment embeddings (B, Q, c), mask logits (B, Q, h, w), and for
            every image the scorer's embeddings (..., Q, d), None without a scorer.
        """
        features = self.extract_features(inputs, batch_img_metas)
        segment_embeddings, mask_logits = self.decode_head.encode_segments(features, last_layer_only=True)
        segment_embeddings = segment_embeddings[-1].float()
        mask_logits = mask_logits[-1].float()
        if self.scorer is None:
            return segment_embeddings, mask_logits, None
        valid_sizes = [valid_size(meta, inputs) for meta in batch_img_metas]
        self.scorer.execution = self.execution
        with single_precision(inputs):
            no_object_logits = self.decode_head.classifier.no_object_logits(segment_embeddings)
            scorer_masks = self._masks_for_scorer(no_object_logits, mask_logits)
            reused = self._reused_features(features)
            clip_embeddings = self.scorer.encode_batch(self.denormalize(inputs), scorer_masks, valid_sizes, **reused)
        return segment_embeddings, mask_logits, clip_embeddings

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the calibrated semantic map (B, C, H, W) at the padded input's size."""
        class_logits, mask_logits, clip_logits = self.predict_logits(inputs, batch_img_metas)
        with single_precision(inputs):
            scores = self.fusion(class_logits, clip_logits, seen_in_host_memory(self.vocabulary))
            semantic_map = assemble_semantic_map(scores, mask_logits, inputs.shape[-2:])
            return calibrate(semantic_map, self.fusion.class_offset(self.seen_mask(inputs.device)))

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Run mmseg's sliding windows, without the image's padding in the metas of every window."""
        metas_without_padding = [dict(meta, img_padding_size=None, padding_size=None) for meta in batch_img_metas]
        return super().slide_inference(inputs, metas_without_padding)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict as mmseg does; with ``test_cfg.return_logits=False`` by ``label_map``, without a semantic map.

        Args:
            inputs (Tensor): (B, 3, H, W) normalized and padded images.
            data_samples (list[SegDataSample], optional): Meta information of the images.

        Returns:
            list[SegDataSample]: With ``pred_sem_seg`` (1, H, W), and ``seg_logits`` (C, H, W) unless
            ``return_logits=False``.
        """
        labels_suffice = not self.test_cfg.get('return_logits', True)
        if not labels_suffice or self.test_cfg.mode != 'whole' or data_samples is None:
            return super().predict(inputs, data_samples)
        # mmseg flips semantic maps back; there is none here to flip.
        if any(sample.metainfo.get('flip') for sample in data_samples):
            return super().predict(inputs, data_samples)
        metas = [sample.metainfo for sample in data_samples]
        class_logits, mask_logits, clip_logits = self.predict_logits(inputs, metas)
        scores = self.fusion(class_logits, clip_logits, seen_in_host_memory(self.vocabulary))
        class_offset = self.fusion.class_offset(self.seen_mask(inputs.device))
        for image, image_scores, logits, sample in zip(inputs, scores, mask_logits, data_samples, strict=True):
            sizes = ImageSizes.of(image, sample.metainfo)
            labels = label_map(image_scores, logits, sizes, class_offset, self.execution)
            sample.set_data(dict(pred_sem_seg=PixelData(data=labels[None])))
        return data_samples

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Convert network inputs (B, 3, H, W) back to RGB images in 0..255."""
        preprocessor = self.data_preprocessor
        if getattr(preprocessor, '_enable_normalize', False):
            inputs = inputs * preprocessor.std + preprocessor.mean
        # mmseg reads BGR. Without conversion the network takes BGR, but CLIP still needs RGB.
        return inputs if converts_to_rgb(preprocessor) else inputs.flip(1)

    def extract_features(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, ...]:
        """Return what the head takes: backbone maps, on a CPU from channels-last inputs, which need no reordering."""
        memory_format = torch.channels_last if inputs.device.type == 'cpu' else torch.contiguous_format
        return self.extract_feat(inputs.contiguous(memory_format=memory_format))

    def _reused_features(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the backbone's last map (B, c, h, w) as ``features`` if the scorer reuses it, else nothing."""
        is_reused = not self.with_neck and self.scorer.reuses_features(self.backbone)
        return dict(features=features[-1]) if is_reused else {}

    def _clip_logits(
        self,
        inputs: Tensor,
        class_logits: Tensor,
        mask_logits: Tensor,
        batch_img_metas: list[dict],
        reused: dict[str, Tensor],
    ) -> Tensor:
        """Return CLIP logits (B, Q, C); minus infinity for segments that pruning skips. ``reused``: see above."""
        self.scorer.execution = self.execution
        images = self.denormalize(inputs)
        valid_sizes = [valid_size(meta, inputs) for meta in batch_img_metas]
        scorer_masks = self._masks_for_scorer(class_logits[..., -1], mask_logits)
        if self.scorer.pruning is None:
            scored = self.scorer.score_segments(images, scorer_masks, self.vocabulary, valid_sizes, **reused)
            return torch.stack(scored)

        def score_queries(queries: list[Tensor]) -> list[Tensor]:
            """Return CLIP logits (n, C) of chosen queries (n,) of every image; images without queries are skipped."""
            clip_logits = [class_logits.new_empty(0, class_logits.shape[-1] - 1) for _ in queries]
            indices = [index for index, image_queries in enumerate(queries) if len(image_queries)]
            if not indices:
                return clip_logits
            scored = self.scorer.score_segments(
                [images[index] for index in indices],
                [scorer_masks[index][queries[index]] for index in indices],
                self.vocabulary,
                [valid_sizes[index] for index in indices],
                # A list, as the host would wait to copy the indices.
                **{name: [features[index] for index in indices] for name, features in reused.items()},
            )
            for index, logits in zip(indices, scored, strict=True):
                clip_logits[index] = logits
            return clip_logits

        states = [
            PruningState(logits, masks, ImageSizes.of(inputs, meta), self.execution)
            for logits, masks, meta in zip(class_logits, mask_logits, batch_img_metas, strict=True)
        ]
        seen = seen_in_host_memory(self.vocabulary)
        self.scorer.pruning(score_queries, states, self.fusion, seen, self.scorer.max_logit(inputs.device))
        return torch.stack([state.clip_logits for state in states])

    def _masks_for_scorer(self, no_object_logits: Tensor, mask_logits: Tensor) -> Sequence[Tensor]:
        """Return each image's mask logits (Q, h, w) for the scorer; merge near-duplicates if ``merge_iou_thr`` is set.

        Args:
            no_object_logits (Tensor): (B, Q) logits of "no object".
            mask_logits (Tensor): (B, Q, h, w).
        """
        iou_thr = self.scorer.merge_iou_thr
        if iou_thr is None:
            return mask_logits
        is_batched = self.execution.is_batched(mask_logits.device)
        return [
            merge_similar_masks(image_no_object, image_masks, iou_thr, is_batched)
            for image_no_object, image_masks in zip(no_object_logits, mask_logits, strict=True)
        ]


def single_precision(inputs: Tensor) -> torch.autocast:
    """Return a context without autocast: half precision would change scores, sums and ties."""
    return torch.autocast(inputs.device.type, enabled=False)
