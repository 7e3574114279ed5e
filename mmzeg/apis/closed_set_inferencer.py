"""Segment images by a model of mmseg with a fixed list of classes, such as a student of ZegFormer."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.apis import init_model
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from mmzeg.apis.image_reading import expand_inputs, read_images
from mmzeg.apis.input_pipeline import build_input_pipeline
from mmzeg.apis.prediction_stream import stream_predictions
from mmzeg.models.segmentors import ZegFormer
from mmzeg.utils.preflight import check_device
from mmzeg.utils.weight_files import check_finite, read_state


def is_closed_set(cfg: Config) -> bool:
    """Return whether a config's model is a segmentor of fixed classes, and not one that mmzeg classifies by names."""
    register_all_modules(init_default_scope=False)
    kind = cfg.get('model', {}).get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    has_classes = 'classifier' not in (cfg.get('model', {}).get('decode_head') or {})
    return isinstance(kind, type) and not issubclass(kind, ZegFormer) and has_classes


class ClosedSetInferencer:
    """Segment images by a trained model of mmseg; predictions have the form of ``ZeroShotInferencer``'s.

    Args:
        cfg (Config): A config of mmseg, with ``test_dataloader``.
        weights (str | Path): A checkpoint of MMEngine, which names its classes: a file or an address.
        device (str, optional): Defaults to a GPU if there is one.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A checkpoint that is truncated, of another model, or without class names; or an unknown device.
    """

    def __init__(self, cfg: Config, weights: str | Path, device: str | None = None) -> None:
        if '://' not in str(weights):
            check_finite(weights, read_state(weights))
        device = device or get_device()
        check_device(device)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        self.pipeline = build_input_pipeline(cfg)
        # A copy, which mmseg changes.
        self.model = init_model(copy.deepcopy(cfg), str(weights), device)
        self.classes = list(self.model.dataset_meta['classes'])
        num_classes = self.model.num_classes
        if len(self.classes) != num_classes:
            raise ValueError(
                f'{weights}: it names {len(self.classes)} classes, but the model has {num_classes}: give the config '
                'that the checkpoint was trained with'
            )

    def stream(self, inputs: object, batch_size: int = 1) -> Iterator[dict]:
        """Segment images one by one in bounded memory.

        Args:
            inputs: As of ``ZeroShotInferencer``.
            batch_size (int): Images of one size that go through the network together. Defaults to 1.

        Yields:
            dict: ``input``, ``image``, ``prediction`` and ``error`` as of ``ZeroShotInferencer.stream``; a prediction
            has ``label_map`` (H, W) int64, ``classes``, and ``unseen``, which is empty.

        Raises:
            ValueError: ``batch_size`` is below 1.
            FileNotFoundError: No file matches a pattern, or a folder has neither images nor videos.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be 1 or more, got {batch_size}')
        return stream_predictions(read_images(expand_inputs(inputs)), batch_size, self.pipeline, self._predict)

    @torch.no_grad()
    def _predict(self, data: list[dict]) -> list[dict]:
        """Return the predictions of images of one size; label maps have the size of the images."""
        samples = self.model.test_step(pseudo_collate(data))
        label_maps = [sample.pred_sem_seg.data[0].cpu().numpy().astype(np.int64) for sample in samples]
        return [dict(label_map=label_map, classes=self.classes, unseen=[]) for label_map in label_maps]
