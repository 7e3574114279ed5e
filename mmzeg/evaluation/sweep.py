"""Many settings of fusion and calibration from one pass over the data: opinions are asked for once an image."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmzeg.evaluation.zero_shot_miou import count_areas, summarize_areas
from mmzeg.models.fusion import MODES, ScoreFusion
from mmzeg.models.scorers import GuaranteedPruning
from mmzeg.models.segmentors import ZegFormer, ZeroShotSegmentor
from mmzeg.models.semantic_map import assemble_semantic_map, to_original_size
from mmzeg.utils.atomic import atomic_write


@dataclass(frozen=True)
class Setting:
    """What is changed between two evaluations.

    Args:
        mode (str): One of the fusion's modes, or ``pixel`` for a model that names pixels.
        lam (float): Ensemble balance; without meaning in modes ``seg``, ``img`` and ``pixel``.
        gamma (float): Calibration, >= 0.

    Raises:
        ValueError: Not a setting of ``mmzeg.ScoreFusion``.
    """

    mode: str
    lam: float
    gamma: float

    def __post_init__(self) -> None:
        ScoreFusion('full' if self.mode == 'pixel' else self.mode, self.lam, self.gamma)


class Sweep:
    """Counts the pixels of every setting over the images it is given, in memory that does not grow.

    Args:
        model (ZeroShotSegmentor): In eval mode.
        settings (Sequence[Setting]): What to evaluate.
        ignore_index (int): Label value that is not counted. Defaults to 255.

    Raises:
        ValueError: A setting is not of this kind of model, or needs CLIP's opinion and the model's own fusion does not
            ask for it; the model prunes for one setting alone; it is not tested on whole pictures.
    """

    def __init__(self, model: ZeroShotSegmentor, settings: Sequence[Setting], ignore_index: int = 255) -> None:
        modes = {setting.mode for setting in settings}
        possible = MODES if isinstance(model, ZegFormer) else ('pixel',)
        if modes - set(possible):
            raise ValueError(f'mode {min(modes - set(possible))!r} is not of this model: it has {", ".join(possible)}')
        if isinstance(model, ZegFormer) and not model.fusion.needs_scorer and modes - {'seg'}:
            raise ValueError(f"mode {min(modes - {'seg'})!r} needs CLIP's opinion: set model.fusion.mode to full")
        if isinstance(getattr(getattr(model, 'scorer', None), 'pruning', None), GuaranteedPruning):
            raise ValueError(
                'GuaranteedPruning asks what one setting needs and others do not: set model.scorer.pruning=None'
            )
        if model.test_cfg.mode != 'whole':
            raise ValueError(
                f'a sweep looks at whole pictures, and tests are set to {model.test_cfg.mode!r}, which gives other '
                'figures: set model.test_cfg.mode=whole, and test in that way'
            )
        self.model, self.ignore_index = model, ignore_index
        self.pictures = 0  # counted so far
        self._areas = dict.fromkeys(settings, torch.zeros(3, len(model.vocabulary), dtype=torch.int64))
        self._gammas: dict[tuple[str, float], list[float]] = {}
        for setting in self._areas:
            self._gammas.setdefault((setting.mode, setting.lam), []).append(setting.gamma)

    @torch.no_grad()
    def process(self, batch: dict) -> None:
        """Count a batch of a test data loader."""
        batch = self.model.data_preprocessor(batch, False)
        inputs, samples = batch['inputs'], batch['data_samples']
        seen = self.model.seen_mask(inputs.device)
        for (mode, lam), semantic_map in self._maps(inputs, [sample.metainfo for sample in samples], seen):
            for one, sample in zip(semantic_map, samples, strict=True):
                one = to_original_size(one, sample.metainfo)
                label = sample.gt_sem_seg.data[0].to(one.device)
                for gamma, predicted in _calibrated(one, seen, self._gammas[mode, lam]):
                    counted = count_areas(predicted, label, len(seen), self.ignore_index, sample.metainfo['img_path'])
                    setting = Setting(mode, lam, gamma)
                    self._areas[setting] = self._areas[setting] + counted
        self.pictures += len(samples)

    def results(self) -> list[dict]:
        """A row a setting: ``mode``, ``lam``, ``gamma`` and the metrics of ``ZeroShotMIoU``."""
        seen = self.model.vocabulary.seen_mask
        return [vars(setting) | summarize_areas(areas, seen)[0] for setting, areas in self._areas.items()]

    def save(self, path: Path, key: dict) -> None:
        """Keep the counts so far in a file, whole or not there.

        Args:
            path (Path): The file, in a folder that is there.
            key (dict): What else decides the figures, as JSON can hold it.
        """
        state = dict(key=json.dumps(self._key(key)), pictures=self.pictures, areas=torch.stack([*self._areas.values()]))
        atomic_write(path, lambda partial: torch.save(state, partial))

    def resume(self, path: Path, key: dict) -> None:
        """Take up the counts that ``save`` kept; ``pictures`` says where to go on.

        Raises:
            ValueError: Not such a file, or its key or settings are others; names the file and the first that differs.
        """
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
            theirs, pictures, areas = json.loads(state['key']), state['pictures'], state['areas']
        except Exception as error:  # of another kind for every way to be damaged
            raise ValueError(f'{path}: not the whole state of a sweep: remove it to start anew') from error
        different = _difference(theirs, self._key(key))
        if different:
            raise ValueError(
                f'{path} is of an unfinished sweep with another {different}: go on with that one, write to another '
                'folder, or remove the file'
            )
        self.pictures, self._areas = pictures, dict(zip(self._areas, areas, strict=True))

    def _key(self, key: dict) -> dict:
        settings = [astuple(setting) for setting in self._areas]
        return json.loads(json.dumps(dict(key, settings=settings), default=str))

    def _maps(self, inputs: Tensor, metas: list[dict], seen: Tensor) -> Iterable[tuple[tuple[str, float], Tensor]]:
        if not isinstance(self.model, ZegFormer):
            semantic_map = self.model.encode_decode(inputs, metas)
            # Its own calibration is undone, and the setting's done instead.
            semantic_map = semantic_map + self.model.gamma * seen.to(semantic_map.dtype)[:, None, None]
            for key in self._gammas:
                yield key, semantic_map
            return
        class_logits, mask_logits, clip_logits = self.model.predict_logits(inputs, metas)
        for mode, lam in self._gammas:
            scores = ScoreFusion(mode, lam)(class_logits, clip_logits, seen)
            yield (mode, lam), assemble_semantic_map(scores, mask_logits, inputs.shape[-2:])


def _calibrated(semantic_map: Tensor, seen: Tensor, gammas: Sequence[float]) -> Iterable[tuple[float, Tensor]]:
    """Label maps (H, W) of a (C, H, W) map for every gamma: the best seen class against the best unseen one."""
    if seen.all() or not seen.any():
        for gamma in gammas:
            yield gamma, semantic_map.argmax(0)
        return
    ids = torch.arange(len(seen), device=seen.device)
    seen_score, seen_index = semantic_map[seen].max(0)
    unseen_score, unseen_index = semantic_map[~seen].max(0)
    for gamma in gammas:
        yield gamma, torch.where(unseen_score > seen_score - gamma, ids[~seen][unseen_index], ids[seen][seen_index])


def _difference(one: object, other: object, name: str = '') -> str | None:
    """The dotted name of the first field that differs."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return None if one == other else name
    found = (_difference(one.get(key), other.get(key), f'{name}.{key}'.strip('.')) for key in {**one, **other})
    return next(filter(None, found), None)
