"""Base class of the segmentors that classify by text: vocabulary, check of the losses, check of checkpoints."""

import copy
import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, print_log
from mmengine.utils import to_2tuple
from mmseg.models.backbones import BEiT
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmzeg.clip.feature_maps import STRIDES
from mmzeg.models.backbones import CLIPBackbone
from mmzeg.models.device_copies import copy_to_device
from mmzeg.utils.palette import further_colours
from mmzeg.utils.weight_files import check_finite
from mmzeg.vocabulary import Vocabulary


class ZeroShotSegmentor(EncoderDecoder):
    """A backbone and a head that classifies by text embeddings.

    A checkpoint holds the trained weights only: no CLIP, no vocabulary.

    Args:
        backbone (dict): An mmseg backbone.
        decode_head (dict): A head with a ``classifier``; ``in_channels`` default to the backbone's channels.
        kwargs: What mmseg's ``EncoderDecoder`` takes. ``test_cfg.mode`` defaults to ``whole``: images are not tested in
            windows.

    Raises:
        ValueError: The backbone takes another number of channels than 3, or it is a ``CLIPBackbone`` and the inputs do
            not have CLIP's normalization.
    """

    def __init__(self, backbone: dict, decode_head: dict, test_cfg: dict | None = None, **kwargs: object) -> None:
        num_channels = backbone.get('in_channels', 3)
        if num_channels != 3:
            raise ValueError(
                f'model.backbone.in_channels={num_channels}: images have 3 channels (RGB); remove in_channels'
            )
        test_cfg = ConfigDict(dict(mode='whole') | (test_cfg or {}))
        super().__init__(backbone=backbone, decode_head=decode_head, test_cfg=test_cfg, **kwargs)
        if isinstance(self.backbone, CLIPBackbone):
            self.backbone.check_normalization(self.data_preprocessor)
        self._known_colours: dict[str, Sequence[int]] = {}

    def _init_decode_head(self, decode_head: dict) -> None:
        decode_head = copy.deepcopy(decode_head)
        if decode_head.get('in_channels') is None:
            channels = self._backbone_channels()
            if channels is not None:
                decode_head['in_channels'] = channels
        super()._init_decode_head(decode_head)

    @torch.no_grad()
    def _backbone_channels(self) -> list[int] | None:
        """Return the channels of the maps that reach the head, from a pass over a blank image.

        The image has the backbone's ``img_size``, as BEiT and MAE take no other; without one it has 64 x 64 pixels.
        Returns None for a head that takes no maps.
        """
        was_training = {module: module.training for module in self.modules()}
        self.eval()
        if isinstance(self.backbone, CLIPBackbone):
            # Its channels are known: CLIP is not loaded before the first image.
            maps = [
                torch.zeros(1, channels, 64 // stride, 64 // stride)
                for channels, stride in zip(self.backbone.out_channels, STRIDES, strict=True)
            ]
            maps = self.neck(maps) if self.with_neck else maps
        else:
            height, width = to_2tuple(getattr(self.backbone, 'img_size', 64))
            maps = self.extract_feat(torch.zeros(1, 3, height, width))
        for module, training in was_training.items():
            module.training = training
        return [feature.shape[1] for feature in maps]

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of backbone and neck for images (B, 3, H, W).

        Raises:
            ValueError: The images have another size than the only one that the backbone takes.
        """
        # mmseg's MAE is a BEiT, too.
        if isinstance(self.backbone, BEiT) and inputs.shape[-2:] != tuple(self.backbone.img_size):
            height, width = self.backbone.img_size
            raise ValueError(
                f'{type(self.backbone).__name__} takes images of {height} x {width} only, and gets '
                f"{inputs.shape[-2]} x {inputs.shape[-1]}: set model.test_cfg=dict(mode='slide', crop_size=({height}, "
                f'{width}), stride=...), or resize and pad images to this size'
            )
        return super().extract_feat(inputs)

    @property
    def dataset_meta(self) -> dict:
        """Names and colours (RGB) of the classes at test, under mmseg's names ``classes`` and ``palette``.

        mmseg's inference draws with it, and sets it to what the checkpoint holds: the classes of the training. Its
        colours are kept, by class name.
        """
        names = self.vocabulary.names
        colours = {name: self._known_colours[name] for name in names if name in self._known_colours}
        other_names = [name for name in names if name not in colours]
        colours.update(zip(other_names, further_colours([*colours.values()], len(other_names)), strict=True))
        return dict(classes=names, palette=[colours[name] for name in names])

    @dataset_meta.setter
    def dataset_meta(self, meta: dict | None) -> None:
        meta = meta or {}
        self._known_colours = dict(zip(meta.get('classes') or (), meta.get('palette') or (), strict=False))

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes at test."""
        return self.decode_head.classifier.vocabulary

    def set_vocabulary(self, vocabulary: dict | list[str] | Vocabulary) -> None:
        """Set the classes at test; no weight changes."""
        self.decode_head.classifier.set_vocabulary(vocabulary)
        self.num_classes = len(self.vocabulary)
        self.out_channels = self.num_classes

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the losses of a batch; see the head's ``loss``.

        Raises:
            FloatingPointError: A loss is NaN or infinite; names it, the iteration and the batch's files.
        """
        try:
            losses = super().loss(inputs, data_samples)
            self._check_finite(losses)
        except FloatingPointError as error:
            iteration = MessageHub.get_current_instance().get_info('iter', 0)
            files = ', '.join(str(sample.metainfo.get('img_path')) for sample in data_samples)
            raise FloatingPointError(f'iteration {iteration}, batch {files}: {error}') from None
        return losses

    @staticmethod
    def _check_finite(losses: dict[str, Tensor]) -> None:
        """Raise FloatingPointError if a loss is NaN or infinite, with one transfer of all losses to the host."""
        values = torch.cat([loss.detach().flatten().float() for loss in losses.values()]).cpu().numpy()
        if np.isfinite(values).all():
            return
        ends = np.cumsum([loss.numel() for loss in losses.values()])
        for name, loss_values in zip(losses, np.split(values, ends[:-1]), strict=True):
            if not np.isfinite(loss_values).all():
                raise FloatingPointError(f'{name} is not finite: the network diverged; lower the learning rate')

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the losses, and the values that the runner logs.

        The runner reads every value. They are therefore copied to the host together, or each would wait for the device.
        """
        loss, log_vars = super().parse_losses(losses)
        values = torch.stack([value.detach().float() for value in log_vars.values()]).cpu()
        return loss, dict(zip(log_vars, values, strict=True))

    def seen_mask(self, device: torch.device) -> Tensor:
        """Return which classes at test are seen, (C,) bool."""
        return copy_to_device(np.array(self.vocabulary.seen_mask), device)

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """Postprocess as mmseg does: crop the padding off, resize to the original size, take the argmax.

        mmseg takes one channel for foreground against background. A vocabulary of one class has no background, so a
        second, lower channel is added.
        """
        if seg_logits.shape[1] > 1:
            return super().postprocess_result(seg_logits, data_samples)
        samples = super().postprocess_result(torch.cat([seg_logits, seg_logits - 1], 1), data_samples)
        for sample in samples:
            sample.seg_logits.data = sample.seg_logits.data[:1]
        return samples

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, *args) -> None:
        """Refuse a checkpoint of another width, backbone or model, which MMEngine would load partly, and NaN weights.

        Raises:
            ValueError: Names the first missing weight, the first of another shape, or the first that is NaN.
        """
        expected = {prefix + name: weight for name, weight in self.state_dict().items()}
        # Weights of another shape.
        reshaped = [name for name, weight in expected.items() if state_dict.get(name, weight).shape != weight.shape]
        if reshaped:
            name = reshaped[0]
            raise ValueError(
                f'the checkpoint is of another width or backbone: {name} is {tuple(state_dict[name].shape)} there and '
                f'{tuple(expected[name].shape)} in the config ({len(reshaped)} such weights); test it with its own '
                'config'
            )
        # Missing weights.
        missing = [name for name in expected if name not in state_dict and not name.endswith('num_batches_tracked')]
        if missing:
            raise ValueError(
                f'the checkpoint lacks {len(missing)} of {len(expected)} weights, {missing[0]} first: it is of another '
                'model or backbone; test it with its own config, or give backbone weights as backbone.init_cfg'
            )
        check_finite('the checkpoint', {name: state_dict[name] for name in expected if name in state_dict})
        # Weights that the model does not have.
        unused = [name for name in state_dict if name.startswith(prefix) and name not in expected]
        if unused:
            print_log(
                f'the checkpoint holds {len(unused)} weights that are not used: {unused}', 'current', logging.WARNING
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args)
