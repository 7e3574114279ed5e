"""Compare settings of scorer and fusion on the same masks of one model; ``tools/world/scorers.py`` is the command."""

from dataclasses import dataclass, field, replace

import torch
from mmengine.config import Config, ConfigDict
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from mmzeg.benchmarking.time_and_memory import Stopwatch
from mmzeg.evaluation.loading import ignore_index_of, load_for_evaluation
from mmzeg.evaluation.zero_shot_miou import SCORES, count_areas, summarize_areas
from mmzeg.models import ScoreFusion
from mmzeg.models.scorers import BaseScorer, build_scorer
from mmzeg.utils.config_files import read_config

EXACT = 'exact'
DENSE = dict(type='mmzeg.CLIPDensePoolScorer')
THRESHOLD = dict(type='mmzeg.ThresholdPruning', score_thr=0.5, min_coverage=0.4)


@dataclass(frozen=True)
class ScorerSetting:
    """What differs from a config.

    Args:
        scorer (dict): Changed fields of the config's scorer; with a ``type``, another scorer with its CLIP and prompts.
        fusion (dict): Changed fields of the config's fusion.
    """

    scorer: dict = field(default_factory=dict)
    fusion: dict = field(default_factory=dict)

    def build_scorer(self, scorer: ConfigDict) -> BaseScorer:
        """Build the scorer from the config's."""
        if 'type' in self.scorer:
            return build_scorer(self.scorer, like=scorer)
        cfg = Config(dict(scorer=scorer.to_dict()))
        cfg.merge_from_dict(dict(scorer=self.scorer))
        return build_scorer(cfg.scorer)

    def build_fusion(self, fusion: ScoreFusion) -> ScoreFusion:
        """Build the fusion from the config's."""
        return replace(fusion, **self.fusion)


def _fc_clip() -> ScorerSetting:
    """Return scorer and fusion of FC-CLIP with a convolutional CLIP of timm."""
    cfg = read_config('_base_/scorers/fc_clip_convnext')
    return ScorerSetting(cfg.scorer.to_dict(), cfg.fusion.to_dict())


def comparison_settings() -> dict[str, ScorerSetting]:
    """Return the settings that are compared, for a convolutional CLIP, by name."""
    fc_clip = _fc_clip()
    return {
        EXACT: ScorerSetting(),
        'masks merged': ScorerSetting(dict(merge_iou_thr=0.4)),
        'masks merged, threshold': ScorerSetting(dict(merge_iou_thr=0.4, pruning=THRESHOLD)),
        'guaranteed': ScorerSetting(dict(pruning=dict(type='mmzeg.GuaranteedPruning'))),
        'threshold 0.5': ScorerSetting(dict(pruning=THRESHOLD)),
        'threshold 0.9': ScorerSetting(dict(pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.9))),
        'threshold 0.8, masks only': ScorerSetting(
            dict(
                pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.8, min_coverage=0.3, use_objectness=False),
            )
        ),
        'box only': ScorerSetting(dict(crop_mode='crop')),
        'geometric ensemble': ScorerSetting(fusion=fc_clip.fusion),
        'FC-CLIP': fc_clip,
        'dense pooling of FC-CLIP': ScorerSetting(fc_clip.scorer),
        'one pass, 256 pixels': ScorerSetting(dict(DENSE, input_size=256)),
        'one pass, masks dilated': ScorerSetting(dict(DENSE, input_size=256, mask_dilation=1)),
        'one pass, 3 sizes, masks dilated': ScorerSetting(dict(DENSE, input_size=[208, 256, 320], mask_dilation=1)),
        'bfloat16': ScorerSetting(dict(clip=dict(precision='bf16'))),
    }


def choose_settings(names: list[str] | None) -> dict[str, ScorerSetting]:
    """Return the settings of some names, all by default.

    Raises:
        ValueError: An unknown name.
    """
    settings = comparison_settings()
    unknown = [name for name in names or [] if name not in settings]
    if unknown:
        raise ValueError(f'--settings {unknown[0]!r} is unknown: use some of {", ".join(map(repr, settings))}')
    return {name: settings[name] for name in names or settings}


class CountedScorer:
    """Count the different masks that a scorer is called with.

    Args:
        scorer (BaseScorer): Its ``score_segments`` is replaced.
    """

    def __init__(self, scorer: BaseScorer) -> None:
        self.scorer = scorer
        self._mask_logits: list[Tensor] = []
        self._score_segments = scorer.score_segments
        scorer.score_segments = self._keep_and_score

    def pop_count(self) -> int:
        """Return the number of different masks since the last call. Counting takes long: leave it out of timings."""
        masks = self._mask_logits
        self._mask_logits = []
        return sum(len(image_masks.flatten(1).unique(dim=0)) for image_masks in masks)

    def _keep_and_score(self, images: object, mask_logits: object, *args: object, **kwargs: object) -> list[Tensor]:
        self._mask_logits += mask_logits
        return self._score_segments(images, mask_logits, *args, **kwargs)


@torch.no_grad()
def compare_scorers(cfg: Config, checkpoint: str, split: str, settings: dict[str, ScorerSetting]) -> list[dict]:
    """Evaluate settings on every image in turn; ``exact`` is always the first.

    Args:
        cfg (Config): Config of a ZegFormer with a scorer.
        checkpoint (str): File or URL of its trained weights.
        split (str): The data loader: ``val`` or ``test``.
        settings (dict): See ``comparison_settings``.

    Returns:
        list[dict]: For every setting ``setting``, the scores, ``seconds`` and ``scored_segments`` per image, and
        ``equal_labels``: the percentage of pixels with the same label as without any change.
    """
    settings = {EXACT: ScorerSetting()} | settings
    runner, loader = load_for_evaluation(cfg, checkpoint, split)
    model = runner.model
    # A model whose masks come from files has no parameters.
    device = model.data_preprocessor.device
    seen = model.vocabulary.seen_mask
    ignore_index = ignore_index_of(cfg, split)
    counted = {name: CountedScorer(setting.build_scorer(cfg.model.scorer)) for name, setting in settings.items()}
    fusions = {name: setting.build_fusion(model.fusion) for name, setting in settings.items()}
    rows = {name: dict(setting=name, areas=0, seconds=0.0, scored_segments=0, equal_labels=0) for name in settings}
    num_pixels = 0
    for batch in track_iter_progress((loader, len(loader))):
        exact_labels = []
        for name, row in rows.items():
            # Predict
            stopwatch = Stopwatch(device)
            with stopwatch.stage(name):
                samples = _test(model, batch, counted[name].scorer, fusions[name])
            row['seconds'] += stopwatch.seconds[name]
            row['scored_segments'] += counted[name].pop_count()
            # Compare with ground truth and with the exact labels
            predictions = [sample.pred_sem_seg.data[0].clone() for sample in samples]
            if name == EXACT:
                exact_labels = predictions
                num_pixels += sum(prediction.numel() for prediction in predictions)
            for sample, prediction, exact in zip(samples, predictions, exact_labels, strict=True):
                label = sample.gt_sem_seg.data[0]
                path = sample.metainfo['img_path']
                row['areas'] = row['areas'] + count_areas(prediction, label, len(seen), ignore_index, path)
                row['equal_labels'] += int((prediction == exact).sum())
    num_images = len(loader.dataset)
    for row in rows.values():
        scores = summarize_areas(row.pop('areas'), seen)[0]
        row.update({score: scores[score] for score in SCORES})
        row['seconds'] /= num_images
        row['scored_segments'] /= num_images
        row['equal_labels'] = 100 * row['equal_labels'] / num_pixels
    return list(rows.values())


def _test(model: nn.Module, batch: dict, scorer: BaseScorer, fusion: ScoreFusion) -> list:
    """Test a batch with a scorer and a fusion, and return the samples with predictions."""
    model.scorer = scorer
    model.fusion = fusion
    return model.test_step(batch)
