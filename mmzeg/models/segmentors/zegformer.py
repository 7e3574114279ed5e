"""The segmentor that joins grouping, naming and CLIP's opinion (paper figure 2)."""

import copy

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub, print_log
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmzeg.registry import MODELS
from mmzeg.vocabulary import Vocabulary


@MODELS.register_module()
class ZegFormer(EncoderDecoder):
    """ZegFormer on any mmseg backbone that gives four maps.

    A checkpoint of it holds what was trained: no CLIP, no vocabulary.

    Args:
        backbone (dict): An mmseg backbone with outputs at strides 4 to 32.
        decode_head (dict): ``mmzeg.ZegFormerHead``; without ``in_channels`` they are read from the backbone.
        scorer (dict, optional): CLIP's opinion at test, e.g. ``mmzeg.CLIPCropScorer``; needed unless the fusion mode is
            ``seg``.
        fusion (dict, optional): Arguments of :class:`mmzeg.models.OpinionFusion`.
        kwargs: What mmseg's ``EncoderDecoder`` takes.
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
        self.fusion = MODELS.build(dict(type='mmzeg.OpinionFusion') | dict(fusion or {}))
        # Not a module: its frozen CLIP is neither trained, moved by the runner, nor saved.
        self.scorer = None if scorer is None else MODELS.build(scorer)
        if self.fusion.needs_scorer and self.scorer is None:
            raise ValueError(f"fusion mode {self.fusion.mode!r} needs CLIP's opinion: set model.scorer, or mode='seg'")

    def _init_decode_head(self, decode_head: dict) -> None:
        decode_head = copy.deepcopy(decode_head)
        if decode_head.get('in_channels') is None:
            decode_head['in_channels'] = self._backbone_channels()
        super()._init_decode_head(decode_head)

    @torch.no_grad()
    def _backbone_channels(self) -> list[int]:
        """Channels of the maps that reach the head, found by a pass over a small blank picture."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        maps = self.extract_feat(torch.zeros(1, 3, 64, 64))
        for module, training in modes.items():
            module.training = training
        return [feature.shape[1] for feature in maps]

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes at test."""
        return self.decode_head.classifier.vocabulary

    def set_vocabulary(self, vocabulary: dict | list[str] | Vocabulary) -> None:
        """Name other classes from now on; no weight changes."""
        self.decode_head.classifier.set_vocabulary(vocabulary)
        self.num_classes = self.out_channels = len(self.vocabulary)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Losses of a batch; see :meth:`ZegFormerHead.loss`.

        Raises:
            FloatingPointError: A loss is NaN or infinite; names it, the iteration and the batch's files.
        """
        try:
            losses = super().loss(inputs, data_samples)
            for name, value in losses.items():
                if not torch.isfinite(value).all():
                    raise FloatingPointError(f'{name} is not finite: the network diverged; lower the learning rate')
        except FloatingPointError as error:
            iteration = MessageHub.get_current_instance().get_info('iter', 0)
            files = ', '.join(str(sample.metainfo.get('img_path')) for sample in data_samples)
            raise FloatingPointError(f'iteration {iteration}, batch {files}: {error}') from None
        return losses

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Semantic map (B, C, H, W) at the padded input's size, calibrated."""
        class_logits, mask_logits = (layers[-1] for layers in self.decode_head(self.extract_feat(inputs)))
        image_logits = self._image_logits(inputs, mask_logits, batch_img_metas) if self.fusion.needs_scorer else None
        seen = torch.tensor(self.vocabulary.seen_mask, device=inputs.device)
        scores = self.fusion(class_logits.float(), image_logits, seen)
        masks = F.interpolate(mask_logits.float(), size=inputs.shape[-2:], mode='bilinear', align_corners=False)
        semantic_map = torch.einsum('bqc,bqhw->bchw', scores, masks.sigmoid())
        return self.fusion.calibrate(semantic_map, seen)

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """mmseg's: padding cut off, brought to the original size, argmax.

        One channel means foreground and background to mmseg; a vocabulary of one class has no background.
        """
        if seg_logits.shape[1] > 1:
            return super().postprocess_result(seg_logits, data_samples)
        samples = super().postprocess_result(torch.cat([seg_logits, seg_logits - 1], 1), data_samples)
        for sample in samples:
            sample.seg_logits.data = sample.seg_logits.data[:1]
        return samples

    def _image_logits(self, inputs: Tensor, mask_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        images = self._denormalize(inputs)
        return torch.stack(
            [
                self.scorer(image, masks, self.vocabulary, valid_size(meta, image))
                for image, masks, meta in zip(images, mask_logits, batch_img_metas, strict=True)
            ]
        )

    def _denormalize(self, inputs: Tensor) -> Tensor:
        """Bring network inputs (B, 3, H, W) back to RGB in 0..255."""
        preprocessor = self.data_preprocessor
        if getattr(preprocessor, '_enable_normalize', False):
            inputs = inputs * preprocessor.std + preprocessor.mean
        # mmseg reads BGR: without conversion the network, but not CLIP, was fed BGR.
        return inputs if getattr(preprocessor, 'channel_conversion', True) else inputs.flip(1)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, *args) -> None:
        """Refuse a checkpoint of another width, backbone or model, which MMEngine would load in part, with a warning.

        Raises:
            ValueError: Names the first missing weight, or the first of another shape.
        """
        ours = {prefix + name: weight for name, weight in self.state_dict().items()}
        missing = [name for name in ours if name not in state_dict and not name.endswith('num_batches_tracked')]
        reshaped = [name for name in ours if name in state_dict and state_dict[name].shape != ours[name].shape]
        if reshaped:
            name = reshaped[0]
            raise ValueError(
                f'the checkpoint is of another width or backbone: {name} is {tuple(state_dict[name].shape)} there and '
                f'{tuple(ours[name].shape)} in the config ({len(reshaped)} such weights); test it with its own config'
            )
        if missing:
            raise ValueError(
                f'the checkpoint lacks {len(missing)} of {len(ours)} weights, {missing[0]} first: it is of another '
                'model or backbone; test it with its own config, or give backbone weights as backbone.init_cfg'
            )
        unexpected = [name for name in state_dict if name.startswith(prefix) and name not in ours]
        if unexpected:
            print_log(f'the checkpoint holds {len(unexpected)} weights that are not used: {unexpected}', 'current', 30)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args)


def valid_size(meta: dict, image: Tensor) -> tuple[int, int]:
    """Height and width of the picture inside a padded (3, H, W) tensor, from mmseg's meta information."""
    left, right, top, bottom = meta.get('img_padding_size') or meta.get('padding_size') or (0, 0, 0, 0)
    return image.shape[1] - bottom, image.shape[2] - right
