"""Evaluate many settings of fusion and calibration in one pass over the data: the model runs once per image."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmzeg.evaluation.zero_shot_miou import count_areas, summarize_areas
from mmzeg.models.calibration import calibrate, calibrated_labels, class_offset
from mmzeg.models.fusion import MODES, ScoreFusion
from mmzeg.models.scorers import GuaranteedPruning
from mmzeg.models.segmentors import ZegFormer, ZeroShotSegmentor
from mmzeg.models.segmentors.zegformer import single_precision
from mmzeg.models.semantic_map import assemble_semantic_map, to_original_size
from mmzeg.utils.atomic import atomic_write


@dataclass(frozen=True)
class Setting:
    """Fusion and calibration of one evaluation.

    Args:
        mode (str): One of the fusion's modes, or ``pixel`` for a model that classifies pixels.
        lam (float): Ensemble balance of modes ``full`` and ``unseen``.
        gamma (float): Calibration, >= 0.
        alpha, beta (float): CLIP's weight for seen and for unseen classes, of mode ``geometric``.

    Raises:
        ValueError: ``mmzeg.ScoreFusion`` refuses the values.
    """

    mode: str
    lam: float
    gamma: float
    alpha: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        # Check the values as the fusion does.
        mode = 'full' if self.mode == 'pixel' else self.mode
        ScoreFusion(mode, self.lam, self.gamma, self.alpha, self.beta)


class Sweep:
    """Count the pixels of every setting over the processed images; memory does not grow with the images.

    Args:
        model (ZeroShotSegmentor): In eval mode.
        settings (Sequence[Setting]): What to evaluate.
        ignore_index (int): Label value that is not counted. Defaults to 255.

    Raises:
        ValueError: The model does not have a setting's mode; a mode needs CLIP logits and the model's own fusion does
            not compute them; the model uses ``GuaranteedPruning``, which holds for one setting only; the model is not
            tested on complete images.
    """

    def __init__(self, model: ZeroShotSegmentor, settings: Sequence[Setting], ignore_index: int = 255) -> None:
        _check_model(model, {setting.mode for setting in settings})
        self.model = model
        self.ignore_index = ignore_index
        # Images counted so far
        self.num_images = 0
        self._areas = dict.fromkeys(settings, torch.zeros(3, len(model.vocabulary), dtype=torch.int64))
        # Gammas of every ensemble: the semantic map before calibration is the same for all of them.
        self._gammas: dict[Setting, list[float]] = {}
        for setting in self._areas:
            self._gammas.setdefault(replace(setting, gamma=0.0), []).append(setting.gamma)

    @torch.no_grad()
    def process(self, batch: dict) -> None:
        """Count the pixels of a test data loader's batch."""
        batch = self.model.data_preprocessor(batch, False)
        inputs = batch['inputs']
        samples = batch['data_samples']
        seen = self.model.seen_mask(inputs.device)
        metas = [sample.metainfo for sample in samples]
        for ensemble, semantic_maps in self._semantic_maps(inputs, metas, seen):
            for semantic_map, sample in zip(semantic_maps, samples, strict=True):
                semantic_map = to_original_size(semantic_map, sample.metainfo)
                label = sample.gt_sem_seg.data[0].to(semantic_map.device)
                name = sample.metainfo['img_path']
                for gamma, prediction in _label_maps(semantic_map, seen, self._gammas[ensemble]):
                    areas = count_areas(prediction, label, len(seen), self.ignore_index, name)
                    setting = replace(ensemble, gamma=gamma)
                    self._areas[setting] = self._areas[setting] + areas
        self.num_images += len(samples)

    def results(self) -> list[dict]:
        """Return a row per setting: its fields and the metrics of ``ZeroShotMIoU``."""
        seen = self.model.vocabulary.seen_mask
        return [vars(setting) | summarize_areas(areas, seen)[0] for setting, areas in self._areas.items()]

    def save(self, path: Path, key: dict) -> None:
        """Write the counts so far to a file, atomically.

        Args:
            path (Path): The file, in an existing folder.
            key (dict): Everything else that decides the results, as values for JSON.
        """
        areas = torch.stack([*self._areas.values()])
        state = dict(key=json.dumps(self._key(key)), images=self.num_images, areas=areas)
        atomic_write(path, lambda partial: torch.save(state, partial))

    def resume(self, path: Path, key: dict) -> None:
        """Load the counts that ``save`` wrote; ``num_images`` says where to go on.

        Raises:
            ValueError: The file is not a sweep's state, or its key or settings differ; names the file and the first
                field that differs.
        """
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
            saved_key = json.loads(state['key'])
            num_images = state['images']
            areas = state['areas']
        # torch and pickle raise other errors for every kind of damage.
        except Exception as error:
            raise ValueError(f'{path}: truncated or not the state of a sweep; remove it to start again') from error
        field = _first_difference(saved_key, self._key(key))
        if field:
            raise ValueError(
                f'{path} is of an unfinished sweep with another {field}: continue that sweep, write to another folder, '
                'or remove the file'
            )
        self.num_images = num_images
        self._areas = dict(zip(self._areas, areas, strict=True))

    def _key(self, key: dict) -> dict:
        """Return the key with the settings, as JSON reads it back."""
        settings = [astuple(setting) for setting in self._areas]
        return json.loads(json.dumps(dict(key, settings=settings), default=str))

    def _semantic_maps(self, inputs: Tensor, metas: list[dict], seen: Tensor) -> Iterable[tuple[Setting, Tensor]]:
        """Yield each setting with gamma 0, and its semantic maps (B, C, H, W) at the padded input's size."""
        if not isinstance(self.model, ZegFormer):
            semantic_maps = self.model.encode_decode(inputs, metas)
            # Undo the model's own calibration.
            semantic_maps = calibrate(semantic_maps, -class_offset(seen, self.model.gamma, semantic_maps.dtype))
            for ensemble in self._gammas:
                yield ensemble, semantic_maps
            return
        class_logits, mask_logits, clip_logits = self.model.predict_logits(inputs, metas)
        for ensemble in self._gammas:
            # As ``ZegFormer.encode_decode`` does.
            with single_precision(inputs):
                scores = replace(self.model.fusion, **vars(ensemble))(class_logits, clip_logits, seen)
                semantic_maps = assemble_semantic_map(scores, mask_logits, inputs.shape[-2:])
            yield ensemble, semantic_maps


def _check_model(model: ZeroShotSegmentor, modes: set[str]) -> None:
    """Raise ValueError unless a model can be evaluated in all modes at once."""
    supported = MODES if isinstance(model, ZegFormer) else ('pixel',)
    unknown = modes - set(supported)
    if unknown:
        raise ValueError(f'mode {min(unknown)!r} is not a mode of this model: use {", ".join(supported)}')
    if isinstance(model, ZegFormer) and not model.fusion.needs_scorer and modes - {'seg'}:
        raise ValueError(f'mode {min(modes - {"seg"})!r} needs CLIP logits: set model.fusion.mode to full')
    if isinstance(getattr(getattr(model, 'scorer', None), 'pruning', None), GuaranteedPruning):
        raise ValueError(
            'GuaranteedPruning scores only the segments that one setting needs: set model.scorer.pruning=None'
        )
    if model.test_cfg.mode != 'whole':
        raise ValueError(
            f'a sweep evaluates complete images, and the config tests in mode {model.test_cfg.mode!r}, which gives '
            'other results: set model.test_cfg.mode=whole, and test with it'
        )


def _label_maps(semantic_map: Tensor, seen: Tensor, gammas: Sequence[float]) -> Iterable[tuple[float, Tensor]]:
    """Yield every gamma and the label map (H, W) of an uncalibrated semantic map (C, H, W)."""
    if seen.all() or not seen.any():
        # All classes are lowered alike, or none is.
        for gamma in gammas:
            yield gamma, semantic_map.argmax(0)
        return
    class_ids = torch.arange(len(seen), device=seen.device)
    seen_scores, seen_indices = semantic_map[seen].max(0)
    unseen_scores, unseen_indices = semantic_map[~seen].max(0)
    seen_labels = class_ids[seen][seen_indices]
    unseen_labels = class_ids[~seen][unseen_indices]
    for gamma in gammas:
        yield gamma, calibrated_labels(seen_scores, seen_labels, unseen_scores, unseen_labels, gamma)


def _first_difference(first: object, second: object, name: str = '') -> str | None:
    """Return the dotted name of the first field that differs, None if all are equal."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return None if first == second else name
    for key in {**first, **second}:
        field = _first_difference(first.get(key), second.get(key), f'{name}.{key}'.strip('.'))
        if field:
            return field
    return None
