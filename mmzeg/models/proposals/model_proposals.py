"""Class-agnostic masks from a model of mmsegmentation or mmdetection, whose classes are not used."""

import torch
from mmdet.models.dense_heads import MaskFormerHead
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from torch import Tensor

from mmzeg.models.image_sizes import valid_size
from mmzeg.models.proposals.proposal_batch import ProposalBatch, binary_proposals
from mmzeg.registry import MODELS
from mmzeg.utils.config_files import read_config


@MODELS.register_module()
class ModelProposals(BaseModule):
    """Predict masks by a model of mmseg or mmdet, and drop its classes.

    - MaskFormer and Mask2Former, of mmseg and mmdet: the masks of all queries. Their objectness is 1 - the probability
      of "no object".
    - Instance segmentation of mmdet, such as Mask R-CNN: the masks of all instances with their scores as objectness.
      Pixels that no mask covers are one more mask.

    Args:
        config (str): Config file of the model, or PACKAGE::FILE in the model zoo of an installed package, such as
            ``mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py``.

    Raises:
        FileNotFoundError: No such config.
        ValueError: The model predicts no masks without classes, or its config has no data preprocessor.
    """

    def __init__(self, config: str) -> None:
        super().__init__()
        cfg = read_config(config)
        self._preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
        if not self._preprocessor:
            raise ValueError(f'{config}: the model has no data_preprocessor: set it')
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmseg')):
            self.model = MODELS.build(cfg.model)
        heads = (getattr(self.model, name, None) for name in ('decode_head', 'panoptic_head'))
        self.has_queries = any(isinstance(head, MaskFormerHead) for head in heads)
        if not self.has_queries and not isinstance(self.model, BaseDetector):
            raise ValueError(
                f'{config}: {cfg.model.type} predicts no class-agnostic masks: give a MaskFormer or Mask2Former, or an '
                'instance segmentation model of mmdet'
            )

    @property
    def preprocessor(self) -> dict:
        """Config of the data preprocessor with the normalization and padding of the model."""
        given = self._preprocessor
        test_cfg = given.get('test_cfg')
        if test_cfg is None and given.get('pad_size_divisor', 1) > 1:
            test_cfg = dict(size_divisor=given.pad_size_divisor)
        fields = {name: given.get(name) for name in ('mean', 'std')}
        channels = {name: given.get(name, False) for name in ('bgr_to_rgb', 'rgb_to_bgr')}
        return dict(type='mmzeg.SegDataPreProcessor', test_cfg=test_cfg, **fields, **channels)

    @torch.no_grad()
    def forward(self, inputs: Tensor, batch_img_metas: list[dict]) -> ProposalBatch:
        """Predict the masks of a batch.

        Args:
            inputs (Tensor): (B, 3, H, W), normalized and padded.
            batch_img_metas (list[dict]): mmseg's meta information of the images.

        Raises:
            ValueError: The model is a detector that predicts boxes only.
        """
        padded_size = tuple(inputs.shape[-2:])
        valid_sizes = [valid_size(meta, inputs) for meta in batch_img_metas]
        # To the model, the inputs are the original images.
        samples = [
            DetDataSample(
                metainfo=dict(
                    ori_shape=size,
                    img_shape=size,
                    pad_shape=padded_size,
                    batch_input_shape=padded_size,
                    scale_factor=(1.0, 1.0),
                )
            )
            for size in valid_sizes
        ]
        if self.has_queries:
            return self._query_masks(inputs, samples)
        return self._instance_masks(inputs, samples)

    def _query_masks(self, inputs: Tensor, samples: list[DetDataSample]) -> ProposalBatch:
        """Return the masks of all queries."""
        head = self.model.panoptic_head if isinstance(self.model, BaseDetector) else self.model.decode_head
        class_logits, mask_logits = head(self.model.extract_feat(inputs), samples)
        class_logits = class_logits[-1].float()
        # The logit of 1 - softmax(class logits)["no object"]
        objectness_logits = class_logits[..., :-1].logsumexp(-1) - class_logits[..., -1]
        return ProposalBatch(mask_logits[-1].float(), objectness_logits)

    def _instance_masks(self, inputs: Tensor, samples: list[DetDataSample]) -> ProposalBatch:
        """Return the masks of all instances."""
        images = []
        for sample in self.model.predict(inputs, samples, rescale=False):
            instances = sample.pred_instances
            if 'masks' not in instances:
                raise ValueError(
                    f'{type(self.model).__name__} predicts boxes without masks: give an instance segmentation model, '
                    'such as Mask R-CNN'
                )
            masks = zip(instances.masks.cpu(), instances.scores.tolist(), strict=True)
            size = sample.img_shape
            images.append(binary_proposals(masks, size, size, inputs.shape[-2:], inputs.device))
        return ProposalBatch.of_images(images)
