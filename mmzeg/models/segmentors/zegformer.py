"""The segmentor that joins grouping, naming and CLIP's opinion (paper figure 2)."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmzeg.models.image_sizes import ImageSizes, valid_size
from mmzeg.models.label_map import label_map
from mmzeg.models.scorers.mask_merging import merge_similar_masks
from mmzeg.models.scorers.pruning import GuaranteedPruning, Picture
from mmzeg.models.segmentors.zero_shot_segmentor import ZeroShotSegmentor
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.registry import MODELS


@MODELS.register_module()
class ZegFormer(ZeroShotSegmentor):
    """ZegFormer on any mmseg backbone that gives four maps.

    A checkpoint of it holds what was trained: no CLIP, no vocabulary.

    Args:
        backbone (dict): An mmseg backbone with outputs at strides 4 to 32.
        decode_head (dict): ``mmzeg.ZegFormerHead``; without ``in_channels`` they are read from the backbone.
        scorer (dict, optional): CLIP's opinion at test, e.g. ``mmzeg.CLIPCropScorer``; needed unless the fusion mode is
            ``seg``.
        fusion (dict, optional): Arguments of ``mmzeg.models.ScoreFusion``.
        kwargs: What mmseg's ``EncoderDecoder`` takes. ``test_cfg=dict(labels_only=True)`` is for many classes: memory
            that does not grow with them, and no ``seg_logits`` in the results; of whole pictures that are not flipped.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        scorer: dict | None = None,
        fusion: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone=backbone, decode_head=decode_head, **kwargs)
        self.fusion = MODELS.build(dict(type='mmzeg.ScoreFusion') | dict(fusion or {}))
        # Not a module: its frozen CLIP is neither trained, moved by the runner, nor saved.
        self.scorer = None if scorer is None else MODELS.build(scorer)
        if self.fusion.needs_scorer and self.scorer is None:
            raise ValueError(f"fusion mode {self.fusion.mode!r} needs CLIP's opinion: set model.scorer, or mode='seg'")
        if isinstance(getattr(self.scorer, 'pruning', None), GuaranteedPruning) and self.test_cfg.mode != 'whole':
            raise ValueError(
                "GuaranteedPruning holds for whole pictures: set model.test_cfg.mode='whole', or ThresholdPruning"
            )

    def predict_logits(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Class logits (B, Q, C + 1), mask logits (B, Q, h, w), and CLIP's logits (B, Q, C) where fusion needs them."""
        found = self.decode_head(self._features(inputs), last_layer_only=True)
        class_logits, mask_logits = (layers[-1].float() for layers in found)
        if not self.fusion.needs_scorer:
            return class_logits, mask_logits, None
        with single_precision(inputs):
            clip_logits = self._image_logits(inputs, class_logits, mask_logits, batch_img_metas)
        return class_logits, mask_logits, clip_logits

    def encode_segments(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        """What any vocabulary can name: segment embeddings (B, Q, c), mask logits (B, Q, h, w), and of every image
        CLIP's embeddings (V, Q, d) of its segments, None without a scorer.

        The classifier's ``forward`` and the scorer's ``name`` make of them what ``opinions`` gives without pruning.
        """
        found = self.decode_head.segments(self._features(inputs), last_layer_only=True)
        segments, mask_logits = (layers[-1].float() for layers in found)
        if self.scorer is None:
            return segments, mask_logits, None
        classifier = self.decode_head.classifier
        valid = [valid_size(meta, inputs) for meta in batch_img_metas]
        with single_precision(inputs):
            no_object = classifier(segments, classifier.no_object.new_empty(0, len(classifier.no_object)))
            shown = self._shown(no_object[..., 0], mask_logits)
            return segments, mask_logits, self.scorer.encode_batch(self.denormalize(inputs), shown, valid)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Semantic map (B, C, H, W) at the padded input's size, calibrated."""
        class_logits, mask_logits, clip_logits = self.predict_logits(inputs, batch_img_metas)
        seen = self.seen_mask(inputs.device)
        with single_precision(inputs):
            scores = self.fusion(class_logits, clip_logits, seen)
            return self.fusion.calibrate(assemble_semantic_map(scores, mask_logits, inputs.shape[-2:]), seen)

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """mmseg's, which tells every window of the whole picture's padding as if it were its own."""
        bare = [dict(meta, img_padding_size=None, padding_size=None) for meta in batch_img_metas]
        return super().slide_inference(inputs, bare)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """mmseg's; with ``test_cfg.labels_only`` without ``seg_logits``, and without a map of all classes."""
        whole = self.test_cfg.get('labels_only') and self.test_cfg.mode == 'whole' and data_samples is not None
        if not whole or any(sample.metainfo.get('flip') for sample in data_samples):
            return super().predict(inputs, data_samples)
        metas = [sample.metainfo for sample in data_samples]
        class_logits, mask_logits, clip_logits = self.predict_logits(inputs, metas)
        seen = self.seen_mask(inputs.device)
        scores = self.fusion(class_logits, clip_logits, seen)
        taken = self.fusion.gamma * seen.to(scores.dtype)
        for image, score, logits, sample in zip(inputs, scores, mask_logits, data_samples, strict=True):
            labels = label_map(score, logits, ImageSizes.of(image, sample.metainfo), taken)
            sample.set_data(dict(pred_sem_seg=PixelData(data=labels[None])))
        return data_samples

    def _features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Backbone maps; on a CPU from channels-last inputs, which its convolutions need not put in another order."""
        layout = torch.channels_last if inputs.device.type == 'cpu' else torch.contiguous_format
        return self.extract_feat(inputs.contiguous(memory_format=layout))

    def _image_logits(
        self, inputs: Tensor, class_logits: Tensor, mask_logits: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        images = self.denormalize(inputs)
        valid = [valid_size(meta, inputs) for meta in batch_img_metas]
        pruning, shown = getattr(self.scorer, 'pruning', None), self._shown(class_logits[..., -1], mask_logits)
        if pruning is None:
            return torch.stack(self._ask(images, shown, valid))

        def ask(queries: list[Tensor]) -> list[Tensor]:
            found = [class_logits.new_empty(0, class_logits.shape[-1] - 1)] * len(queries)
            some = [index for index, which in enumerate(queries) if len(which)]
            if some:
                masks = [shown[index][queries[index]] for index in some]
                answers = self._ask([images[index] for index in some], masks, [valid[index] for index in some])
                for index, answer in zip(some, answers, strict=True):
                    found[index] = answer
            return found

        pictures = [
            Picture(logits, masks, ImageSizes.of(inputs, meta))
            for logits, masks, meta in zip(class_logits, mask_logits, batch_img_metas, strict=True)
        ]
        pruning(ask, pictures, self.fusion, self.seen_mask(inputs.device), self.scorer.max_logit(inputs.device))
        return torch.stack([picture.clip_logits for picture in pictures])

    def _shown(self, no_object: Tensor, mask_logits: Tensor) -> Sequence[Tensor]:
        """Mask logits (Q, h, w) of every image as the scorer gets them; logits (B, Q) of "no object"."""
        iou = getattr(self.scorer, 'merge_iou_thr', None)
        if iou is None:
            return mask_logits
        return [merge_similar_masks(*pair, iou) for pair in zip(no_object, mask_logits, strict=True)]

    def _ask(self, images: Sequence[Tensor], mask_logits: Sequence[Tensor], valid: list[tuple]) -> list[Tensor]:
        """Logits of the scorer for every image; one that has no ``batch`` sees them one by one."""
        if hasattr(self.scorer, 'batch'):
            return self.scorer.batch(images, mask_logits, self.vocabulary, valid)
        return [
            self.scorer(image, masks, self.vocabulary, size)
            for image, masks, size in zip(images, mask_logits, valid, strict=True)
        ]

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Bring network inputs (B, 3, H, W) back to RGB in 0..255."""
        preprocessor = self.data_preprocessor
        if getattr(preprocessor, '_enable_normalize', False):
            inputs = inputs * preprocessor.std + preprocessor.mean
        # mmseg reads BGR: without conversion the network, but not CLIP, was fed BGR.
        return inputs if getattr(preprocessor, 'channel_conversion', True) else inputs.flip(1)


def single_precision(inputs: Tensor) -> torch.autocast:
    """Autocast switched off: in half precision scores, sums and ties would be others."""
    return torch.autocast(inputs.device.type, enabled=False)
