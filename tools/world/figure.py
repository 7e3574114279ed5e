"""Draw test scenes with their ground truth and ZegFormer's label maps: text embeddings only, and with CLIP.

python tools/world/figure.py CONFIG CHECKPOINT OUT.png

With ``--settings``, the label maps are those of scorer settings, as tools/world/scorers.py compares them.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import patheffects
from mmengine.config import DictAction
from scipy import ndimage

from mmzeg.evaluation.loading import load_for_evaluation, require_scorer
from mmzeg.evaluation.scorer_comparison import ScorerSetting, choose_settings
from mmzeg.models import ScoreFusion
from mmzeg.models.calibration import calibrate
from mmzeg.models.scorers import BaseScorer
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

SUFFIXES = ('.png', '.jpg', '.pdf', '.svg')
# The label maps without --settings
MODES = {
    'seg (text only)': ScorerSetting(fusion=dict(mode='seg')),
    'full (ensemble)': ScorerSetting(fusion=dict(mode='full')),
}
# Regions below this fraction of the image get no name, which would cover them.
MIN_REGION = 0.012
# Pixels between a name's centre and the left and right edges of the image.
MARGIN = 14


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('out', type=Path, help='figure to write')
    parser.add_argument('--scenes', type=int, default=4, help='number of scenes: the first with two unseen classes')
    parser.add_argument(
        '--settings', nargs='+', help='scorer settings of tools/world/scorers.py, such as "exact" "FC-CLIP"'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@torch.no_grad()
def predict_row(model, batch: dict, settings: dict[str, tuple[BaseScorer, ScoreFusion]]) -> dict[str, np.ndarray]:
    """Return what a row of the figure shows: image (H, W, 3) uint8 and label maps (H, W), by their titles."""
    batch = model.data_preprocessor(batch, False)
    inputs = batch['inputs']
    sample = batch['data_samples'][0]
    # Image and ground truth
    image = model.denormalize(inputs)[0].permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy()
    row = {'image': image, 'ground truth': sample.gt_sem_seg.data[0].cpu().numpy()}
    # Label maps
    seen = model.seen_mask(inputs.device)
    for title, (scorer, fusion) in settings.items():
        model.scorer = scorer
        model.fusion = fusion
        class_logits, mask_logits, clip_logits = model.predict_logits(inputs, [sample.metainfo])
        scores = fusion(class_logits, clip_logits, seen)
        semantic_map = assemble_semantic_map(scores, mask_logits, inputs.shape[-2:])
        semantic_map = calibrate(semantic_map, fusion.class_offset(seen))
        row[title] = semantic_map.argmax(1)[0].cpu().numpy()
    return row


def draw_labels(axes, image: np.ndarray, label_map: np.ndarray, meta: dict) -> None:
    """Draw a label map over a faint image, with the name of every region; unseen classes in yellow, with a star."""
    palette = np.array(meta['palette'], np.uint8)
    axes.imshow((0.35 * image + 0.65 * palette[label_map]).astype(np.uint8))
    for label in np.unique(label_map):
        name = meta['classes'][label]
        unseen = name in meta['unseen_classes']
        regions, num_regions = ndimage.label(label_map == label)
        for region in range(1, num_regions + 1):
            mask = regions == region
            if mask.mean() < MIN_REGION:
                continue
            # Write the name at the point that is farthest from the edge: of a ring, a point of its rim.
            distance = ndimage.distance_transform_edt(np.pad(mask, 1))
            y, x = np.unravel_index(distance.argmax(), distance.shape)
            text = axes.text(
                np.clip(x, MARGIN, mask.shape[1] - MARGIN),
                y,
                f'{name}*' if unseen else name,
                ha='center',
                va='center',
                fontsize=8,
                color='#ffe600' if unseen else 'white',
                fontweight='bold' if unseen else 'normal',
            )
            text.set_path_effects([patheffects.withStroke(linewidth=2, foreground='black')])


def draw_figure(rows: list[dict[str, np.ndarray]], meta: dict, path: Path) -> None:
    """Draw all rows into a file."""
    titles = list(rows[0])
    size = (2.75 * len(titles), 2.75 * len(rows))
    figure, grid = pyplot.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout='constrained')
    for axes_row, row in zip(grid, rows, strict=True):
        for axes, title in zip(axes_row, titles, strict=True):
            axes.set_axis_off()
            if title == 'image':
                axes.imshow(row[title])
            else:
                draw_labels(axes, row['image'], row[title], meta)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=11)
    figure.supxlabel('yellow with a star: a class without annotations in training', fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=110))


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.out.suffix not in SUFFIXES:
        raise ValueError(f'{args.out}: end its name with one of {", ".join(SUFFIXES)}')
    # Load the model
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    settings = choose_settings(args.settings) if args.settings else MODES
    if not args.settings:
        cfg.model.fusion.mode = 'full'
    runner, loader = load_for_evaluation(cfg, args.checkpoint, 'test')
    model = runner.model
    built = {
        title: (setting.build_scorer(cfg.model.scorer), setting.build_fusion(model.fusion))
        for title, setting in settings.items()
    }
    # Predict the first scenes that have two unseen classes
    meta = loader.dataset.metainfo
    unseen = [meta['classes'].index(name) for name in meta['unseen_classes']]
    rows = []
    for batch in loader:
        if np.isin(unseen, batch['data_samples'][0].gt_sem_seg.data).sum() >= 2:
            rows.append(predict_row(model, batch, built))
        if len(rows) == args.scenes:
            break
    if not rows:
        raise ValueError(f'{args.config}: no test scene has two unseen classes')
    draw_figure(rows, meta, args.out)


if __name__ == '__main__':
    main()
