"""Draw test scenes beside their labels and what ZegFormer makes of them, by text alone and with CLIP's opinion.

python tools/world/picture.py CONFIG CHECKPOINT OUT.png
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
from mmzeg.models import ScoreFusion
from mmzeg.models.semantic_map import assemble_semantic_map
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

# Below this share of the picture a name would cover the thing it names.
SMALLEST = 0.012


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument('--scenes', type=int, default=4, help='the first so many with two unseen things or more')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@torch.no_grad()
def views(model, batch: dict) -> dict[str, np.ndarray]:
    """Photo (H, W, 3) and the label maps (H, W) of one scene: truth, seg, full."""
    batch = model.data_preprocessor(batch, False)
    inputs, sample = batch['inputs'], batch['data_samples'][0]
    seen = model.seen_mask(inputs.device)
    class_logits, mask_logits, clip_logits = model.predict_logits(inputs, [sample.metainfo])
    found = dict(
        photo=model.denormalize(inputs)[0].permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy(),
        truth=sample.gt_sem_seg.data[0].cpu().numpy(),
    )
    for mode in ('seg', 'full'):
        fusion = ScoreFusion(mode, model.fusion.lam, model.fusion.gamma)
        scores = fusion(class_logits, clip_logits, seen)
        semantic_map = fusion.calibrate(assemble_semantic_map(scores, mask_logits, inputs.shape[-2:]), seen)
        found[mode] = semantic_map.argmax(1)[0].cpu().numpy()
    return found


def draw_labels(axes, photo: np.ndarray, label_map: np.ndarray, meta: dict) -> None:
    """Colours over a faint photo, and the name of every region; unseen ones starred, in yellow."""
    palette = np.array(meta['palette'], np.uint8)
    axes.imshow((0.35 * photo + 0.65 * palette[label_map]).astype(np.uint8))
    for label in np.unique(label_map):
        name = meta['classes'][label]
        unseen = name in meta['unseen_classes']
        parts, count = ndimage.label(label_map == label)
        for part in range(1, count + 1):
            inside = parts == part
            if inside.mean() < SMALLEST:
                continue
            # The point that lies deepest inside, so that a ring is named on its rim.
            y, x = np.unravel_index(ndimage.distance_transform_edt(np.pad(inside, 1)).argmax(), np.add(inside.shape, 2))
            text = axes.text(
                np.clip(x, 14, inside.shape[1] - 14),
                y,
                f'{name}*' if unseen else name,
                ha='center',
                va='center',
                fontsize=8,
                color='#ffe600' if unseen else 'white',
                fontweight='bold' if unseen else 'normal',
            )
            text.set_path_effects([patheffects.withStroke(linewidth=2, foreground='black')])


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.out.suffix not in ('.png', '.jpg', '.pdf', '.svg'):
        raise ValueError(f'{args.out}: end its name with .png, .jpg, .pdf or .svg')
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    cfg.model.fusion.mode = 'full'
    runner, loader = load_for_evaluation(cfg, args.checkpoint, 'test')
    meta = loader.dataset.metainfo
    unseen = [meta['classes'].index(name) for name in meta['unseen_classes']]
    rows = []
    for batch in loader:
        if np.isin(unseen, batch['data_samples'][0].gt_sem_seg.data).sum() >= 2:
            rows.append(views(runner.model, batch))
        if len(rows) == args.scenes:
            break
    if not rows:
        raise ValueError(f'{args.config}: no test scene holds two unseen classes')
    titles = dict(photo='photo', truth='truth', seg='seg: text alone', full="full: with CLIP's opinion")
    figure, grid = pyplot.subplots(len(rows), 4, figsize=(11, 2.75 * len(rows)), squeeze=False, layout='constrained')
    for number, (axes, row) in enumerate(zip(grid, rows, strict=True)):
        for axis, (name, title) in zip(axes, titles.items(), strict=True):
            axis.set_axis_off()
            if number == 0:
                axis.set_title(title, fontsize=11)
            if name == 'photo':
                axis.imshow(row[name])
            else:
                draw_labels(axis, row['photo'], row[name], meta)
    figure.supxlabel('yellow with a star: a class that had no label in training', fontsize=10)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.out, lambda partial: figure.savefig(partial, format=args.out.suffix[1:], dpi=110))


if __name__ == '__main__':
    main()
