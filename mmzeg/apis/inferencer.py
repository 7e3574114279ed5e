"""Segment images by any class names, from Python."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.infer.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from rich.progress import track
from torch import Tensor, nn

from mmzeg.apis.call_settings import CallSettings, CallSettingsBuilder
from mmzeg.apis.drawing import overlay
from mmzeg.apis.encoded_image import EncodedImage
from mmzeg.apis.image_reading import expand_inputs, file_of, read_images
from mmzeg.apis.input_pipeline import apply_input_pipeline, build_input_pipeline
from mmzeg.apis.prediction_stream import stream_predictions
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.proposals import ProposalError
from mmzeg.models.segmentors import ZegFormer
from mmzeg.publishing.published_model import is_published_model, published_build, read_model_config
from mmzeg.utils.image_decoding import read_image
from mmzeg.utils.preflight import check_device
from mmzeg.utils.weight_files import NO_WEIGHTS, check_finite, check_weightless, read_state


class ZeroShotInferencer(BaseInferencer):
    """Segment images by class names that may change at every call.

    ``encode`` and ``classify`` are the two steps of a call: ``encode`` runs the networks once per image, ``classify``
    is fast and may be repeated with other class names. Calls from several threads run one after another.

    Args:
        model (str | Path | Config): A config, its file, its name in ``configs``, or a published model
            (``.safetensors``), which holds config and weights.
        weights (str, optional): A checkpoint file; ``none`` for a model without weights, whose masks come from files.
            Defaults to the published model's weights, else to random ones.
        device (str, optional): Defaults to a GPU if there is one.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        ValueError: A config that cannot be read, or a published one that could do more than describe a network; a
            checkpoint that is truncated or of another model; an unknown device.
    """

    def __init__(
        self, model: str | Path | Config, weights: str | Path | None = None, device: str | None = None
    ) -> None:
        register_all_modules(init_default_scope=False)
        init_default_scope('mmseg')
        has_no_weights = weights == NO_WEIGHTS
        weights = None if has_no_weights else weights
        # Check what the caller gave before the model is built.
        cfg = model if isinstance(model, (Config, ConfigDict)) else read_model_config(model)
        if 'model' not in cfg:
            # MMEngine would run the text of the config that a checkpoint holds.
            raise ValueError(f'{model}: a config without model')
        published = cfg.filename if is_published_model(getattr(cfg, 'filename', None) or '') else None
        weights = weights or published
        state = {}
        if weights is not None and '://' not in str(weights):
            state = read_state(weights)
            check_finite(weights, state)
        device = device or get_device()
        check_device(device)
        # Build the model and load its weights.
        with published_build(published, state) if published else nullcontext():
            super().__init__(cfg, None if weights is None else str(weights), device, scope='mmseg')
        if has_no_weights:
            check_weightless(self.model)
        if not isinstance(self.model, ZegFormer):
            raise ValueError(
                f'{cfg.model.type} predicts no segments: give a config of mmzeg.ZegFormer or mmzeg.ProposalSegmentor'
            )
        if self.model.test_cfg.mode != 'whole':
            raise ValueError("segments are predicted for whole images: set model.test_cfg.mode='whole'")
        self._settings = CallSettingsBuilder(self.model, self.cfg.model.get('scorer'))
        self.train_vocabulary = self._settings.train_vocabulary
        self._lock = threading.Lock()

    def __call__(
        self,
        inputs: object,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        scorer: dict | None = None,
        batch_size: int = 1,
        return_scores: bool = False,
        return_vis: bool = False,
        show_progress: bool = False,
    ) -> dict[str, list]:
        """Segment images.

        Args:
            inputs: A file, a folder, a pattern, an array (H, W, 3) uint8 BGR, a PIL image, a video, the number of a
                camera, or a list of these.
            classes (Sequence[str], optional): Class names; "sofa, couch" is one class with a synonym. Defaults to the
                config's.
            seen (Sequence[str], optional): Those of ``classes`` that are scored and calibrated as seen. Defaults to
                those that the model was trained on, by name.
            mode, lam, gamma (optional): As in ``mmzeg.ScoreFusion``. Default to the config's.
            scorer (dict, optional): Config of another scorer, such as ``dict(type='mmzeg.CLIPMaskScorer')``; its
                ``clip`` and ``prompts`` default to those of the config's scorer.
            batch_size (int): Images of one size that go through the network together. Defaults to 1.
            return_scores (bool): Also return the semantic map. Defaults to False.
            return_vis (bool): Also return drawings of the label maps. Defaults to False.
            show_progress (bool): Draw a progress bar. Defaults to False.

        Returns:
            dict: ``predictions``, for every image a dict or, where it could not be read, None: ``label_map`` (H, W)
            int64, indices of ``classes``; ``classes``; ``unseen``, those scored as unseen; ``segments``, see
            ``SegmentPredictions.label_map_and_segments``; with ``return_scores`` also ``scores`` (C, H, W), calibrated.
            ``errors``: for every image without a prediction its index ``place``, ``input`` and ``error``. With
            ``return_vis`` also ``visualization``: drawings (H, W', 3) uint8 RGB, None where there is no prediction.

        Raises:
            ValueError: No class, a class listed twice, a name of ``seen`` that is not in ``classes``, or bad fusion
                settings.
            FileNotFoundError: No file matches a pattern, or a folder has neither images nor videos.
        """
        sources = expand_inputs(inputs)
        stream = self.stream(sources, classes, seen, mode, lam, gamma, scorer, batch_size, scores=return_scores)
        predictions = []
        drawings = []
        errors = []
        for index, item in enumerate(track(stream, 'Inference', total=len(sources), disable=not show_progress)):
            predictions.append(item['prediction'])
            if item['error'] is not None:
                errors.append(dict(place=index, input=item['input'], error=item['error']))
            if return_vis:
                drawings += self.visualize([item['image']], [item['prediction']])
        return self.postprocess(predictions, drawings if return_vis else None, errors)

    def stream(
        self,
        inputs: object,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        scorer: dict | None = None,
        batch_size: int = 1,
        scores: bool = False,
        masks: bool = False,
    ) -> Iterator[dict]:
        """Segment images one by one in bounded memory: for videos, cameras and large folders.

        Args:
            inputs, classes, seen, mode, lam, gamma, scorer, batch_size: See ``__call__``, which raises the same errors.
            scores (bool): Whether predictions have ``scores``. Defaults to False.
            masks (bool): Whether segments have a ``mask``, (H, W) bool. Defaults to False.

        Yields:
            dict: ``input``, of a frame FILE#NUMBER; ``image`` (H, W, 3) uint8 RGB; ``prediction``, see ``__call__``;
            ``error``. Either ``image`` and ``prediction`` are set, or ``error`` says why not.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be 1 or more, got {batch_size}')
        settings = self.settings(classes, seen, mode, lam, gamma, scorer)
        predict = partial(self._predict, settings=settings, scores=scores, masks=masks)
        return stream_predictions(read_images(expand_inputs(inputs)), batch_size, self.pipeline, predict)

    def settings(
        self,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        scorer: dict | None = None,
    ) -> CallSettings:
        """Return the settings of a call, for ``predict_segments``; arguments and errors as of ``__call__``."""
        settings = CallSettings(
            vocabulary=self._settings.vocabulary(classes, seen),
            fusion=self._settings.fusion(mode, lam, gamma),
            scorer=self._settings.scorer(scorer),
        )
        if settings.fusion.needs_scorer and settings.scorer is None:
            raise ValueError(f"mode {settings.fusion.mode!r} needs a scorer, and the config has none: use mode='seg'")
        return settings

    def encode(self, image: object, file: str | None = None) -> EncodedImage:
        """Encode the segments of one image by the network and the scorer: the slow step of a call.

        Args:
            image: A file, an array (H, W, 3) uint8 BGR, or a PIL image.
            file (str, optional): The file that an array was read from: ``mmzeg.FileProposals`` finds masks by it.

        Raises:
            FileNotFoundError, ValueError: The image cannot be read, or is too large; or its masks cannot be read.
        """
        data = apply_input_pipeline(self.pipeline, read_image(image), file or file_of(image))
        with self._lock, torch.no_grad():
            inputs, metas = self._collate([data])
            segment_embeddings, mask_logits, clip_embeddings = self.model.encode_segments(inputs, metas)
            return EncodedImage(
                segment_embeddings=segment_embeddings[0],
                mask_logits=mask_logits[0],
                clip_embeddings=None if clip_embeddings is None else clip_embeddings[0],
                sizes=ImageSizes.of(inputs, metas[0]),
                image=self.model.denormalize(inputs)[0],
            )

    def classify(
        self, encoded: EncodedImage, classes: Sequence[str] | None = None, seen: Sequence[str] | None = None
    ) -> SegmentPredictions:
        """Classify the segments of an encoded image: the fast step of a call, without the networks.

        Args:
            encoded (EncodedImage): From ``encode``.
            classes, seen: See ``__call__``.

        Returns:
            SegmentPredictions: Logits of all segments, even if the config's scorer has pruning.
        """
        vocabulary = self._settings.vocabulary(classes, seen)
        classifier = self.model.decode_head.classifier
        with self._lock, torch.no_grad():
            try:
                classifier.set_vocabulary(vocabulary)
                text_embeddings = classifier.text_embeddings(training=False)
                class_logits = classifier(encoded.segment_embeddings, text_embeddings)
            finally:
                classifier.set_vocabulary(self._settings.defaults.vocabulary)
            clip_logits = None
            if encoded.clip_embeddings is not None:
                clip_logits = self.model.scorer.classify(encoded.clip_embeddings, vocabulary)
        return SegmentPredictions(
            class_logits, encoded.mask_logits, clip_logits, vocabulary, encoded.sizes, self.model.execution
        )

    def fusion(self, mode: str | None = None, lam: float | None = None, gamma: float | None = None) -> ScoreFusion:
        """Return the config's fusion, with the given settings changed; ValueError as in ``mmzeg.ScoreFusion``."""
        return self._settings.fusion(mode, lam, gamma)

    def predict_segments(self, data: list[dict], settings: CallSettings) -> list[SegmentPredictions]:
        """Predict the segments of images of one size, without their label maps.

        Args:
            data (list[dict]): What the test pipeline returns for the images, see ``apply_input_pipeline``.
            settings (CallSettings): Of ``settings``.

        Raises:
            ProposalError: The masks of an image cannot be read.
        """
        # Locked for one batch, so that a stream that is not read to its end does not block other threads.
        with self._lock, self._settings.apply(settings):
            return self._segments(data)

    @torch.no_grad()
    def forward(self, data: list[dict], scores: bool = False, masks: bool = False) -> list[dict]:
        """Predict for images of one size; see ``stream``."""
        vocabulary = self.model.vocabulary
        fusion = self.model.fusion
        predictions = []
        for logits in self._segments(data):
            label_map, segments = logits.label_map_and_segments(fusion, masks)
            prediction = dict(label_map=label_map.cpu().numpy(), segments=segments)
            prediction |= dict(classes=list(vocabulary.names), unseen=list(vocabulary.unseen))
            if scores:
                prediction['scores'] = logits.semantic_map(fusion).cpu().numpy()
            predictions.append(prediction)
        return predictions

    def visualize(self, inputs: list[np.ndarray | None], preds: list[dict | None]) -> list[np.ndarray | None]:
        """Draw predictions over images (H, W, 3) RGB; returns (H, W', 3) uint8 RGB, see ``overlay``."""
        drawings = []
        for image, prediction in zip(inputs, preds, strict=True):
            if prediction is None:
                drawings.append(None)
            else:
                drawings.append(overlay(image, prediction['label_map'], prediction['classes'], prediction['unseen']))
        return drawings

    def postprocess(self, preds: list, visualization: list | None = None, errors: Sequence[dict] = ()) -> dict:
        """Assemble the result of ``__call__``."""
        result = dict(predictions=preds, errors=list(errors))
        return result if visualization is None else result | dict(visualization=visualization)

    def _predict(self, data: list[dict], settings: CallSettings, scores: bool, masks: bool) -> list[dict | str]:
        """Return the prediction of every image; of an image whose masks cannot be read, the reason."""
        try:
            # Locked for one batch, so that a stream that is not read to its end does not block other threads.
            with self._lock, self._settings.apply(settings):
                return self.forward(data, scores, masks)
        except ProposalError as error:
            others = data[: error.index] + data[error.index + 1 :]
            predictions = self._predict(others, settings, scores, masks) if others else []
            return [*predictions[: error.index], str(error), *predictions[error.index :]]

    @torch.no_grad()
    def _segments(self, data: list[dict]) -> list[SegmentPredictions]:
        """Return the logits of the segments of images of one size, with the model's current settings."""
        inputs, metas = self._collate(data)
        class_logits, mask_logits, clip_logits = self.model.predict_logits(inputs, metas)
        vocabulary = self.model.vocabulary
        execution = self.model.execution
        predictions = []
        for index, meta in enumerate(metas):
            image_clip_logits = None if clip_logits is None else clip_logits[index]
            sizes = ImageSizes.of(inputs, meta)
            predictions.append(
                SegmentPredictions(
                    class_logits[index], mask_logits[index], image_clip_logits, vocabulary, sizes, execution
                )
            )
        return predictions

    def _collate(self, data: list[dict]) -> tuple[Tensor, list[dict]]:
        """Return network inputs (B, 3, H, W), and the meta information of every image."""
        batch = self.model.data_preprocessor(self.collate_fn(data), False)
        return batch['inputs'], [sample.metainfo for sample in batch['data_samples']]

    def _init_pipeline(self, cfg: Config) -> Compose:
        return build_input_pipeline(cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Config) -> None:
        # MMEngine warns of random weights, also where a model has none.
        if checkpoint is not None or any(True for _ in model.parameters()):
            super()._load_weights_to_model(model, checkpoint, cfg)

    def _init_visualizer(self, cfg: Config) -> None:
        return None
