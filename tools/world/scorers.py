"""Compare scorer settings on a trained model of the procedural dataset: quality against time, as a table and a plot.

python tools/world/scorers.py configs/zegformer_r18_world.py CHECKPOINT --plot scorers.png
"""

import argparse
import time
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.utils import track_iter_progress
from prettytable import PrettyTable

from mmzeg.evaluation.loading import ignore_index_of, load_for_evaluation, require_scorer
from mmzeg.evaluation.zero_shot_miou import SCORES, count_areas, summarize_areas
from mmzeg.models.scorers import BaseScorer, build_scorer
from mmzeg.utils.atomic import atomic_write, write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tables import format_score
from mmzeg.utils.tool_arguments import add_trust_argument

PLOT_SUFFIXES = ('.png', '.pdf', '.svg')
MARKERS = 'osDv^<>Pp*hX'
EXACT = 'exact'
DENSE = dict(type='mmzeg.CLIPDensePoolScorer')
THRESHOLD = dict(type='mmzeg.ThresholdPruning', score_thr=0.5, min_coverage=0.4)
# Changes of the config's scorer, or, with a type, another scorer.
SETTINGS = {
    EXACT: {},
    'masks merged': dict(merge_iou_thr=0.4),
    'masks merged, threshold': dict(merge_iou_thr=0.4, pruning=THRESHOLD),
    'guaranteed': dict(pruning=dict(type='mmzeg.GuaranteedPruning')),
    'threshold 0.5': dict(pruning=THRESHOLD),
    'threshold 0.9': dict(pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.9)),
    'threshold 0.8, masks only': dict(
        pruning=dict(type='mmzeg.ThresholdPruning', score_thr=0.8, min_coverage=0.3, use_objectness=False)
    ),
    'box only': dict(crop_mode='crop'),
    'one pass, 256 pixels': dict(DENSE, input_size=256),
    'one pass, masks dilated': dict(DENSE, input_size=256, mask_dilation=1),
    'one pass, 3 sizes, masks dilated': dict(DENSE, input_size=[208, 256, 320], mask_dilation=1),
    'bfloat16': dict(clip=dict(precision='bf16')),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer on the world')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('--data', choices=['val', 'test'], default='test', help='the data loader to evaluate')
    parser.add_argument('--plot', type=Path, help='file for a plot of harmonic mean against time')
    parser.add_argument('--out', type=Path, help='JSON file for all rows')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


class CountedScorer:
    """Count the different masks that a scorer is called with.

    Args:
        scorer (BaseScorer): Its ``score_segments`` is replaced.
    """

    def __init__(self, scorer: BaseScorer) -> None:
        self.scorer = scorer
        self.num_segments = 0
        self._score_segments = scorer.score_segments
        scorer.score_segments = self._count_and_score

    def _count_and_score(self, images: object, mask_logits: object, *args: object) -> list[torch.Tensor]:
        self.num_segments += sum(len(masks.flatten(1).unique(dim=0)) for masks in mask_logits)
        return self._score_segments(images, mask_logits, *args)


def build_changed_scorer(scorer: ConfigDict, change: dict) -> BaseScorer:
    """Build a config's scorer with a change, or another scorer with its CLIP and prompts."""
    if 'type' in change:
        return build_scorer(change, like=scorer)
    cfg = Config(dict(scorer=scorer.to_dict()))
    cfg.merge_from_dict(dict(scorer=change))
    return build_scorer(cfg.scorer)


def measure(cfg: Config, checkpoint: str, split: str) -> list[dict]:
    """Evaluate all settings on every image in turn.

    Returns:
        list[dict]: For every setting ``setting``, the scores, ``seconds`` and ``scored_segments`` per image, and
        ``equal_labels``: the percentage of pixels with the same label as without any change.
    """
    runner, loader = load_for_evaluation(cfg, checkpoint, split)
    model = runner.model
    seen = model.vocabulary.seen_mask
    ignore_index = ignore_index_of(cfg, split)
    counted = {name: CountedScorer(build_changed_scorer(cfg.model.scorer, change)) for name, change in SETTINGS.items()}
    rows = {name: dict(setting=name, areas=0, seconds=0.0, equal_labels=0) for name in SETTINGS}
    num_pixels = 0
    for batch in track_iter_progress((loader, len(loader))):
        exact_labels = []
        for name, row in rows.items():
            # Predict
            model.scorer = counted[name].scorer
            start = time.perf_counter()
            samples = model.test_step(batch)
            row['seconds'] += time.perf_counter() - start
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
    for name, row in rows.items():
        scores = summarize_areas(row.pop('areas'), seen)[0]
        row.update({score: scores[score] for score in SCORES})
        row['seconds'] /= num_images
        row['scored_segments'] = counted[name].num_segments / num_images
        row['equal_labels'] = 100 * row['equal_labels'] / num_pixels
    return list(rows.values())


def draw(rows: list[dict], path: Path) -> None:
    """Plot the harmonic mean against time."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for row, marker in zip(rows, MARKERS, strict=True):
        axes.plot(1000 * row['seconds'], row['hIoU'], marker, markersize=9, label=row['setting'])
    axes.set(xlabel='milliseconds per image', ylabel='harmonic mean of seen and unseen mIoU')
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=120))


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.plot and args.plot.suffix not in PLOT_SUFFIXES:
        raise ValueError(f'--plot {args.plot}: end its name with one of {", ".join(PLOT_SUFFIXES)}')
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    rows = measure(cfg, args.checkpoint, args.data)
    table = PrettyTable(['setting', *SCORES, 'ms per image', 'segments scored per image', 'equal labels, %'], align='r')
    for row in rows:
        scores = [format_score(row[score]) for score in SCORES]
        milliseconds = f'{1000 * row["seconds"]:.0f}'
        table.add_row(
            [row['setting'], *scores, milliseconds, f'{row["scored_segments"]:.1f}', f'{row["equal_labels"]:.2f}']
        )
    print(f'\n{table}')
    if args.out:
        write_json(args.out, rows)
    if args.plot:
        draw(rows, args.plot)


if __name__ == '__main__':
    with torch.no_grad():
        main()
