"""Any class name on any picture, from Python."""

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.infer.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from torch import Tensor

import mmzeg
from mmzeg.apis.drawing import overlay
from mmzeg.apis.pictures import expand, read_picture
from mmzeg.models.fusion import OpinionFusion
from mmzeg.models.segmentors.zegformer import ZegFormer, assemble, to_original
from mmzeg.vocabulary import Vocabulary

# What a pipeline of a dataset has and a picture alone has not.
LOADERS = ('LoadImageFromFile', 'mmzeg.DrawScene', 'LoadAnnotations', 'mmzeg.LoadLabels')


class ZeroShotInferencer(BaseInferencer):
    """Segments pictures by class names that may change at every call.

    Calls from several threads are taken one after another.

    Args:
        model (str | Path | Config): A config: its file, or its name in ``configs``.
        weights (str, optional): A checkpoint. Without one the weights are random.
        device (str, optional): Defaults to a GPU if there is one.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        ValueError: The checkpoint is of another model; a device that is not there.
    """

    def __init__(
        self, model: str | Path | Config, weights: str | Path | None = None, device: str | None = None
    ) -> None:
        register_all_modules(init_default_scope=False)
        init_default_scope('mmseg')
        if weights is not None and '://' not in str(weights) and not Path(weights).is_file():
            raise FileNotFoundError(f'{weights}: no such checkpoint')
        device = device or get_device()
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f"device {device!r}: no GPU is found; use device='cpu'")
        cfg = model if isinstance(model, (Config, ConfigDict)) else Config.fromfile(_config_file(model))
        super().__init__(cfg, None if weights is None else str(weights), device, scope='mmseg')
        if not isinstance(self.model, ZegFormer):
            raise ValueError(f'{cfg.model.type} has no segments to name: give a config of mmzeg.ZegFormer')
        self.trained = self.model.decode_head.classifier.train_vocabulary
        self._own = (self.model.vocabulary, self.model.fusion)
        self._lock = threading.Lock()

    def __call__(
        self,
        inputs: object,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        batch_size: int = 1,
        return_scores: bool = False,
        return_vis: bool = False,
    ) -> dict[str, list]:
        """Segment pictures.

        Args:
            inputs: A file, a folder, a pattern, an array (H, W, 3) uint8 BGR, a PIL image, or a list of these.
            classes (Sequence[str], optional): Names, "sofa, couch" being one class with a synonym. Defaults to the
                config's.
            seen (Sequence[str], optional): Those of ``classes`` that are scored and calibrated as seen. Defaults to
                those that the model was trained on, by name.
            mode, lam, gamma (optional): As in ``mmzeg.OpinionFusion``. Default to the config's.
            batch_size (int): Pictures of one size that go through the network together.
            return_scores (bool): Also return the semantic map.
            return_vis (bool): Also return drawn pictures.

        Returns:
            dict: ``predictions``, for every picture a dict or, where it could not be read, None: ``label_map`` (H, W)
            int64, indices of ``classes``; ``classes``; ``segments``, largest first, each with ``name``, ``score`` in
            [0, 1], ``box`` (x0, y0, x1, y1) of its first and last pixel, ``area`` in pixels and ``query``; ``scores``
            (C, H, W), calibrated, if asked for. ``errors``: for every picture that could not be read, its place in
            ``predictions``, ``input`` and ``error``. ``visualization``, if asked for: pictures (H, W', 3) uint8 RGB,
            None where there is no prediction.

        Raises:
            ValueError: No class, one twice, a name of ``seen`` that is not in ``classes``, or bad fusion settings.
            FileNotFoundError: Nothing fits a pattern.
        """
        vocabulary = self._vocabulary(classes, seen)
        own = self._own[1]
        fusion = OpinionFusion(
            own.mode if mode is None else mode,
            own.lam if lam is None else lam,
            own.gamma if gamma is None else gamma,
        )
        if fusion.needs_scorer and self.model.scorer is None:
            raise ValueError(f"mode {fusion.mode!r} needs CLIP's opinion, and the config has no scorer: use mode='seg'")
        predictions: list[dict | None] = []
        drawn: list[np.ndarray | None] = []
        errors: list[dict] = []
        with self._lock:
            self.model.set_vocabulary(vocabulary)
            self.model.fusion = fusion
            try:
                for pictures in self._read(expand(inputs), batch_size, errors):
                    start = len(predictions)
                    predictions.extend([None] * len(pictures))
                    drawn.extend([None] * len(pictures))
                    for places, batch in self.preprocess(pictures):
                        found = self.forward(batch, return_scores=return_scores)
                        shown = [pictures[place] for place in places]
                        views = self.visualize(shown, found, vocabulary) if return_vis else [None] * len(found)
                        for place, prediction, view in zip(places, found, views, strict=True):
                            predictions[start + place], drawn[start + place] = prediction, view
            finally:
                self.model.set_vocabulary(self._own[0])
                self.model.fusion = own
        return self.postprocess(predictions, drawn if return_vis else None, errors)

    def preprocess(self, pictures: list[np.ndarray | None]) -> Iterator[tuple[list[int], dict]]:
        """Batches of pictures of one size, with their places in the list."""
        by_shape: dict[tuple, list[tuple[int, dict]]] = {}
        for place, picture in enumerate(pictures):
            if picture is not None:
                data = self.pipeline(dict(img=picture[..., ::-1]))
                by_shape.setdefault(tuple(data['inputs'].shape), []).append((place, data))
        for group in by_shape.values():
            places, data = zip(*group, strict=True)
            yield list(places), self.collate_fn(list(data))

    @torch.no_grad()
    def forward(self, batch: dict, return_scores: bool = False) -> list[dict]:
        """Predictions of a batch; see ``__call__``."""
        data = self.model.data_preprocessor(batch, False)
        inputs, metas = data['inputs'], [sample.metainfo for sample in data['data_samples']]
        class_logits, mask_logits, image_logits = self.model.opinions(inputs, metas)
        seen = self.model.seen_mask(inputs.device)
        scores = self.model.fusion(class_logits, image_logits, seen)
        names = self.model.vocabulary.names
        found = []
        for score, logits, meta in zip(scores, mask_logits, metas, strict=True):
            semantic_map = assemble(score[None], logits[None], inputs.shape[-2:])[0]
            semantic_map = self.model.fusion.calibrate(to_original(semantic_map, meta), seen)
            masks = F.interpolate(logits[None], size=inputs.shape[-2:], mode='bilinear', align_corners=False)[0]
            label_map = semantic_map.argmax(0)
            segments = segments_of(label_map, score, to_original(masks.sigmoid(), meta), names)
            found.append(dict(label_map=label_map.cpu().numpy(), classes=list(names), segments=segments))
            if return_scores:
                found[-1]['scores'] = semantic_map.cpu().numpy()
        return found

    def visualize(self, inputs: list[np.ndarray], preds: list[dict], vocabulary: Vocabulary) -> list[np.ndarray]:
        """Pictures (H, W', 3) uint8 RGB with colours and a legend, of pictures (H, W, 3) RGB and their predictions."""
        return [
            overlay(picture, found['label_map'], found['classes'], vocabulary.unseen)
            for picture, found in zip(inputs, preds, strict=True)
        ]

    def postprocess(self, preds: list, visualization: list | None = None, errors: Sequence[dict] = ()) -> dict:
        """What a call returns."""
        result = dict(predictions=preds, errors=list(errors))
        return result if visualization is None else result | dict(visualization=visualization)

    def _init_pipeline(self, cfg: Config) -> Compose:
        own = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] not in LOADERS]
        return Compose([dict(type='mmseg.LoadImageFromNDArray'), *own])

    def _init_visualizer(self, cfg: Config) -> None:
        return None

    def _vocabulary(self, classes: Sequence[str] | None, seen: Sequence[str] | None) -> Vocabulary:
        if isinstance(classes, str):
            raise ValueError(f'classes is one string, {classes[:40]!r}: give a list of names')
        names = self._own[0].names if classes is None else Vocabulary(classes).names
        known = set(self.trained.names if seen is None else seen)
        strangers = [] if seen is None else [name for name in seen if name not in names]
        if strangers:
            raise ValueError(f'{strangers[0]!r} is listed in seen but not among the classes: add it there')
        return Vocabulary(names, unseen=[name for name in names if name not in known])

    @staticmethod
    def _read(sources: Iterator, size: int, errors: list[dict]) -> Iterator[list[np.ndarray | None]]:
        """So many pictures at a time, None for one that cannot be read, which is noted in ``errors``."""
        place = 0
        while chunk := list(islice(sources, size)):
            pictures: list[np.ndarray | None] = []
            for source in chunk:
                try:
                    pictures.append(read_picture(source))
                except (OSError, ValueError) as error:
                    pictures.append(None)
                    errors.append(dict(place=place, input=source, error=str(error)))
                place += 1
            yield pictures


def segments_of(label_map: Tensor, scores: Tensor, masks: Tensor, names: Sequence[str]) -> list[dict]:
    """The parts of a label map, largest first: pixels of one class for which one query speaks loudest.

    Args:
        label_map (Tensor): (H, W) class indices.
        scores (Tensor): (Q, C) of the queries.
        masks (Tensor): (Q, H, W) in 0..1.
        names (Sequence[str]): Of the C classes.
    """
    loudest, speaker = torch.zeros_like(masks[0]), torch.zeros_like(label_map)
    for query, (score, mask) in enumerate(zip(scores, masks, strict=True)):
        voice = score[label_map] * mask
        speaker = torch.where(voice > loudest, query, speaker)
        loudest = torch.maximum(voice, loudest)
    found = []
    for pair in (speaker * len(names) + label_map).unique().tolist():
        query, label = divmod(pair, len(names))
        rows, columns = torch.nonzero((speaker == query) & (label_map == label), as_tuple=True)
        box = [int(side) for side in (columns.min(), rows.min(), columns.max(), rows.max())]
        found.append(dict(name=names[label], score=scores[query, label].item(), box=box, area=len(rows), query=query))
    return sorted(found, key=lambda segment: -segment['area'])


def _config_file(model: str | Path) -> Path:
    path = Path(model)
    named = Path(mmzeg.__file__).parents[1] / 'configs' / f'{model}.py'
    for found in (path, named):
        if found.is_file():
            return found
    raise FileNotFoundError(f'{model}: no such config file, nor a name of one in configs')
