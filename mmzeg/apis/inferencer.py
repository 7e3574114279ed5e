"""Any class name on any picture, from Python."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
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
from torch import Tensor

from mmzeg.apis.drawing import overlay
from mmzeg.apis.image_reading import expand, read_image, read_images
from mmzeg.apis.segment_predictions import EncodedImage, SegmentPredictions
from mmzeg.class_names import check_class_names
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.image_sizes import ImageSizes
from mmzeg.models.segmentors import ZegFormer
from mmzeg.registry import MODELS
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_device, read_checkpoint
from mmzeg.vocabulary import Vocabulary

# What a pipeline of a dataset has and a picture alone has not.
LOADERS = ('LoadImageFromFile', 'mmzeg.DrawScene', 'LoadAnnotations', 'mmzeg.LoadLabels')
# Pixels that may reach the network. Published configs resize to 1.6 million at most, which take R101 about 1.2 GB.
MAX_INPUT = 1 << 22


class ZeroShotInferencer(BaseInferencer):
    """Segments pictures by class names that may change at every call.

    Calls from several threads are taken one after another. ``look`` and ``name`` are the two halves of a call: the
    long one that sees, and the short one that any other class names repeat.

    Args:
        model (str | Path | Config): A config: its file, or its name in ``configs``.
        weights (str, optional): A checkpoint. Without one the weights are random.
        device (str, optional): Defaults to a GPU if there is one.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        ValueError: A config that cannot be read; a checkpoint of another model, or cut off; a device that is not there.
    """

    def __init__(
        self, model: str | Path | Config, weights: str | Path | None = None, device: str | None = None
    ) -> None:
        register_all_modules(init_default_scope=False)
        init_default_scope('mmseg')
        if weights is not None and '://' not in str(weights):
            read_checkpoint(weights)
        device = device or get_device()
        check_device(device)
        cfg = model if isinstance(model, (Config, ConfigDict)) else read_config(model)
        super().__init__(cfg, None if weights is None else str(weights), device, scope='mmseg')
        if not isinstance(self.model, ZegFormer):
            raise ValueError(f'{cfg.model.type} has no segments to name: give a config of mmzeg.ZegFormer')
        if self.model.test_cfg.mode != 'whole':
            raise ValueError("segments are of whole pictures: set model.test_cfg.mode='whole'")
        self.trained = self.model.decode_head.classifier.train_vocabulary
        self._own = (self.model.vocabulary, self.model.fusion, self.model.scorer)
        self._scorers: dict[str, object] = {}
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
        """Segment pictures.

        Args:
            inputs: A file, a folder, a pattern, an array (H, W, 3) uint8 BGR, a PIL image, a video, the number of a
                camera, or a list of these.
            classes (Sequence[str], optional): Names, "sofa, couch" being one class with a synonym. Defaults to the
                config's.
            seen (Sequence[str], optional): Those of ``classes`` that are scored and calibrated as seen. Defaults to
                those that the model was trained on, by name.
            mode, lam, gamma (optional): As in ``mmzeg.ScoreFusion``. Default to the config's.
            scorer (dict, optional): Another way to ask CLIP, such as ``dict(type='mmzeg.CLIPMaskScorer')``; its CLIP
                and prompts default to those of the config's scorer.
            batch_size (int): Pictures of one size that go through the network together.
            return_scores (bool): Also return the semantic map.
            return_vis (bool): Also return drawn pictures.
            show_progress (bool): Draw a progress bar.

        Returns:
            dict: ``predictions``, for every picture a dict or, where it could not be read, None: ``label_map`` (H, W)
            int64, indices of ``classes``; ``classes``; ``unseen``, those scored as unseen; ``segments``, see
            ``SegmentPredictions.read``; ``scores`` (C, H, W), calibrated, if asked for. ``errors``: for every picture without
            a prediction its place, ``input`` and ``error``. ``visualization``, if asked for: pictures (H, W', 3) uint8
            RGB, None where there is no prediction.

        Raises:
            ValueError: No class, one twice, a name of ``seen`` that is not in ``classes``, or bad fusion settings.
            FileNotFoundError: Nothing fits a pattern, or nothing is in a folder.
        """
        sources = expand(inputs)
        asked = dict(classes=classes, seen=seen, mode=mode, lam=lam, gamma=gamma, scorer=scorer, batch_size=batch_size)
        predictions, drawn, errors = [], [], []
        stream = self.stream(sources, **asked, scores=return_scores)
        for place, found in enumerate(track(stream, 'Inference', total=len(sources), disable=not show_progress)):
            predictions.append(found['prediction'])
            if found['error'] is not None:
                errors.append(dict(place=place, input=found['input'], error=found['error']))
            if return_vis:
                drawn += self.visualize([found['picture']], [found['prediction']])
        return self.postprocess(predictions, drawn if return_vis else None, errors)

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
        """The same one by one, in memory that does not grow: of videos, cameras, large folders.

        Args:
            inputs, classes, seen, mode, lam, gamma, scorer, batch_size: See ``__call__``, with its errors.
            scores (bool): Predictions also have ``scores``.
            masks (bool): Segments also have their ``mask``, (H, W) bool.

        Yields:
            dict: ``input``, of a frame FILE#NUMBER; ``picture`` (H, W, 3) uint8 RGB; ``prediction``, see ``__call__``;
            ``error``. Either both ``picture`` and ``prediction`` are there, or ``error`` says why not.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be 1 or more, got {batch_size}')
        vocabulary, fusion, scorer = (
            self._vocabulary(classes, seen),
            self.fusion(mode, lam, gamma),
            self._scorer(scorer),
        )
        if fusion.needs_scorer and scorer is None:
            raise ValueError(f"mode {fusion.mode!r} needs CLIP's opinion, and the config has no scorer: use mode='seg'")
        return self._stream(read_images(expand(inputs)), batch_size, (vocabulary, fusion, scorer), scores, masks)

    def look(self, picture: object) -> EncodedImage:
        """What network and CLIP see in one picture, before it is named: the long part of a call.

        Args:
            picture: A file, an array (H, W, 3) uint8 BGR, or a PIL image.

        Raises:
            FileNotFoundError, ValueError: The picture cannot be read, or is too large.
        """
        data = self._data(read_image(picture))
        with self._lock, torch.no_grad():
            inputs, metas = self._batch([data])
            embeddings, mask_logits, views = self.model.encode_segments(inputs, metas)
        views, image = None if views is None else views[0], self.model.denormalize(inputs)[0]
        return EncodedImage(embeddings[0], mask_logits[0], views, ImageSizes.of(inputs, metas[0]), image)

    def name(self, look: EncodedImage, classes: Sequence[str] | None = None, seen: Sequence[str] | None = None) -> SegmentPredictions:
        """What is said of a look's segments if they may have these names; see ``__call__``. Nothing is looked at anew.

        With pruning in the config the opinions are still of all segments.
        """
        vocabulary = self._vocabulary(classes, seen)
        with self._lock, torch.no_grad():
            classifier = self.model.decode_head.classifier
            try:
                classifier.set_vocabulary(vocabulary)
                class_logits = classifier(look.embeddings, classifier.text_embeddings(training=False))
            finally:
                classifier.set_vocabulary(self._own[0])
            clip_logits = None if look.views is None else self.model.scorer.classify(look.views, vocabulary)
        return SegmentPredictions(class_logits, look.mask_logits, clip_logits, vocabulary, look.geometry)

    def preprocess(self, pictures: list[np.ndarray]) -> Iterator[tuple[list[int], list[dict] | str]]:
        """Pictures of one size, with their places in the list; or one place, and why its picture cannot be taken."""
        by_shape: dict[tuple, list[tuple[int, dict]]] = {}
        for place, picture in enumerate(pictures):
            try:
                data = self._data(picture)
            except ValueError as error:
                yield [place], str(error)
                continue
            by_shape.setdefault(tuple(data['inputs'].shape), []).append((place, data))
        for group in by_shape.values():
            places, data = zip(*group, strict=True)
            yield list(places), list(data)

    @torch.no_grad()
    def forward(self, data: list[dict], scores: bool = False, masks: bool = False) -> list[dict]:
        """Predictions of pictures of one size; see ``stream``."""
        inputs, metas = self._batch(data)
        class_logits, mask_logits, clip_logits = self.model.predict_logits(inputs, metas)
        vocabulary, fusion, found = self.model.vocabulary, self.model.fusion, []
        for index, meta in enumerate(metas):
            asked = None if clip_logits is None else clip_logits[index]
            geometry = ImageSizes.of(inputs, meta)
            opinions = SegmentPredictions(class_logits[index], mask_logits[index], asked, vocabulary, geometry)
            label_map, segments = opinions.read(fusion, masks)
            prediction = dict(label_map=label_map.cpu().numpy(), segments=segments)
            prediction |= dict(classes=list(vocabulary.names), unseen=list(vocabulary.unseen))
            if scores:
                prediction['scores'] = opinions.semantic_map(fusion).cpu().numpy()
            found.append(prediction)
        return found

    def visualize(self, inputs: list[np.ndarray | None], preds: list[dict | None]) -> list[np.ndarray | None]:
        """Pictures (H, W', 3) uint8 RGB with colours and a legend, of pictures (H, W, 3) RGB and their predictions."""
        return [
            None if found is None else overlay(picture, found['label_map'], found['classes'], found['unseen'])
            for picture, found in zip(inputs, preds, strict=True)
        ]

    def postprocess(self, preds: list, visualization: list | None = None, errors: Sequence[dict] = ()) -> dict:
        """What a call returns."""
        result = dict(predictions=preds, errors=list(errors))
        return result if visualization is None else result | dict(visualization=visualization)

    def _stream(self, pictures: Iterator, size: int, asked: tuple, scores: bool, masks: bool) -> Iterator[dict]:
        while chunk := list(islice(pictures, size)):
            found = [dict(input=source, picture=None, prediction=None, error=error) for source, _, error in chunk]
            whole = [place for place, (_, picture, _) in enumerate(chunk) if picture is not None]
            for places, data in self.preprocess([chunk[place][1] for place in whole]):
                if isinstance(data, str):
                    found[whole[places[0]]]['error'] = f'{_called(found[whole[places[0]]]["input"])}: {data}'
                    continue
                # Only now, so that a stream that nobody reads further does not lock others out.
                with self._lock, self._asked(*asked):
                    predictions = self.forward(data, scores, masks)
                for place, prediction in zip(places, predictions, strict=True):
                    found[whole[place]].update(picture=chunk[whole[place]][1], prediction=prediction)
            yield from found

    @contextmanager
    def _asked(self, vocabulary: Vocabulary, fusion: ScoreFusion, scorer: object) -> Iterator[None]:
        """The model names other classes, decides or asks otherwise, and is as it was afterwards."""
        try:
            self.model.set_vocabulary(vocabulary)
            self.model.fusion, self.model.scorer = fusion, scorer
            yield
        finally:
            self.model.set_vocabulary(self._own[0])
            _, self.model.fusion, self.model.scorer = self._own

    def _data(self, picture: np.ndarray) -> dict:
        """One picture (H, W, 3) RGB through the config's test pipeline; ValueError where it is of no use to it."""
        height, width = picture.shape[:2]
        try:
            data = self.pipeline(dict(img=picture[..., ::-1]))
        except (cv2.error, ValueError, ZeroDivisionError) as error:
            raise ValueError(
                f'a picture of {width} x {height} cannot be brought to the size of the test pipeline: cut or pad it'
            ) from error
        if data['inputs'][0].numel() > MAX_INPUT:
            raise ValueError(
                f'a picture of {width} x {height} would reach the network with more than {MAX_INPUT} pixels: make it '
                'smaller, or give the test pipeline of the config a Resize'
            )
        return data

    def _batch(self, data: list[dict]) -> tuple[Tensor, list[dict]]:
        batch = self.model.data_preprocessor(self.collate_fn(data), False)
        return batch['inputs'], [sample.metainfo for sample in batch['data_samples']]

    def _init_pipeline(self, cfg: Config) -> Compose:
        own = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] not in LOADERS]
        return Compose([dict(type='mmseg.LoadImageFromNDArray'), *own])

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        return None

    def _vocabulary(self, classes: Sequence[str] | None, seen: Sequence[str] | None) -> Vocabulary:
        if isinstance(classes, str):
            raise ValueError(f'classes is one string, {classes[:40]!r}: give a list of names')
        names = self._own[0].names if classes is None else Vocabulary(classes).names
        known = set(self.trained.names if seen is None else check_class_names(seen, 'seen'))
        strangers = () if seen is None else known - set(names)
        if strangers:
            raise ValueError(f'{min(strangers)!r} is listed in seen but not among the classes: add it there')
        return Vocabulary(names, unseen=[name for name in names if name not in known])

    def fusion(self, mode: str | None = None, lam: float | None = None, gamma: float | None = None) -> ScoreFusion:
        """The config's own fusion, changed in what is given; ValueError as in ``mmzeg.ScoreFusion``."""
        own, given = self._own[1], dict(mode=mode, lam=lam, gamma=gamma)
        return ScoreFusion(**{name: getattr(own, name) if value is None else value for name, value in given.items()})

    def _scorer(self, scorer: dict | None) -> object:
        own = self._own[2]
        if scorer is None:
            return own
        key = repr(scorer)
        if key not in self._scorers:
            shared = dict(clip=self.cfg.model.scorer.clip, prompts=own.prompts) if own is not None else {}
            self._scorers[key] = MODELS.build(shared | dict(scorer))
        return self._scorers[key]


def _called(source: object) -> str:
    """What a message calls a picture."""
    return str(source) if isinstance(source, (str, Path)) else f'a {type(source).__name__}'
