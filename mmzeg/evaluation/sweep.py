"""Many settings of fusion and calibration from one pass over the data: opinions are asked for once an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmzeg.evaluation.zero_shot_miou import count, summarize
from mmzeg.models.fusion import OpinionFusion
from mmzeg.models.scorers import GuaranteedPruning
from mmzeg.models.segmentors import ZegFormer, ZeroShotSegmentor
from mmzeg.models.segmentors.zegformer import assemble, to_original


@dataclass(frozen=True)
class Setting:
    """What is changed between two evaluations.

    Args:
        mode (str): One of the fusion's modes, or ``pixel`` for a model that names pixels.
        lam (float): Ensemble balance; without meaning in modes ``seg``, ``img`` and ``pixel``.
        gamma (float): Calibration.
    """

    mode: str
    lam: float
    gamma: float


class Sweep:
    """Counts the pixels of every setting over the images it is given, in memory that does not grow.

    Args:
        model (ZeroShotSegmentor): In eval mode.
        settings (Sequence[Setting]): What to evaluate.
        ignore_index (int): Label value that is not counted. Defaults to 255.

    Raises:
        ValueError: A setting needs CLIP's opinion and the model's own fusion does not ask for it, or prunes for one
            setting alone.
    """

    def __init__(self, model: ZeroShotSegmentor, settings: Sequence[Setting], ignore_index: int = 255) -> None:
        if isinstance(model, ZegFormer) and not model.fusion.needs_scorer:
            strangers = {setting.mode for setting in settings} - {'seg'}
            if strangers:
                raise ValueError(f"mode {min(strangers)!r} needs CLIP's opinion: set model.fusion.mode to full")
        if isinstance(getattr(getattr(model, 'scorer', None), 'pruning', None), GuaranteedPruning):
            raise ValueError(
                'GuaranteedPruning asks what one setting needs and others do not: set model.scorer.pruning=None'
            )
        self.model, self.ignore_index = model, ignore_index
        self._gammas: dict[tuple[str, float], list[float]] = {}
        for setting in settings:
            self._gammas.setdefault((setting.mode, setting.lam), []).append(setting.gamma)
        self._areas: dict[Setting, Tensor] = {}

    @torch.no_grad()
    def process(self, batch: dict) -> None:
        """Count a batch of a test data loader."""
        batch = self.model.data_preprocessor(batch, False)
        inputs, samples = batch['inputs'], batch['data_samples']
        seen = self.model.seen_mask(inputs.device)
        for (mode, lam), semantic_map in self._maps(inputs, [sample.metainfo for sample in samples], seen):
            for one, sample in zip(semantic_map, samples, strict=True):
                one = to_original(one, sample.metainfo)
                label = sample.gt_sem_seg.data[0].to(one.device)
                for gamma, predicted in _calibrated(one, seen, self._gammas[mode, lam]):
                    counted = count(predicted, label, len(seen), self.ignore_index, sample.metainfo['img_path'])
                    setting = Setting(mode, lam, gamma)
                    self._areas[setting] = self._areas.get(setting, 0) + counted

    def results(self) -> list[dict]:
        """A row a setting: ``mode``, ``lam``, ``gamma`` and the metrics of ``ZeroShotMIoU``."""
        seen = self.model.vocabulary.seen_mask
        return [vars(setting) | summarize(areas, seen)[0] for setting, areas in self._areas.items()]

    def _maps(self, inputs: Tensor, metas: list[dict], seen: Tensor) -> Iterable[tuple[tuple[str, float], Tensor]]:
        if not isinstance(self.model, ZegFormer):
            semantic_map = self.model.encode_decode(inputs, metas)
            # Its own calibration is undone, and the setting's done instead.
            semantic_map = semantic_map + self.model.gamma * seen.to(semantic_map.dtype)[:, None, None]
            for key in self._gammas:
                yield key, semantic_map
            return
        class_logits, mask_logits, image_logits = self.model.opinions(inputs, metas)
        for mode, lam in self._gammas:
            scores = OpinionFusion(mode, lam)(class_logits, image_logits, seen)
            yield (mode, lam), assemble(scores, mask_logits, inputs.shape[-2:])


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
