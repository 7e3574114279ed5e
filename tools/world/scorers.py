"""Quality against time of every way to ask CLIP, on a trained world model: a table and a plot.

python tools/world/scorers.py configs/zegformer_r18_world.py CHECKPOINT --plot scorers.png
"""

import argparse
import time
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.utils import track_iter_progress
from mmseg.registry import MODELS
from prettytable import PrettyTable

from mmzeg.evaluation.loading import load_for_evaluation, require_scorer
from mmzeg.evaluation.zero_shot_miou import SCORES, count_areas, summarize_areas
from mmzeg.models.scorers import build_scorer
from mmzeg.utils.atomic import atomic_write, write_json
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

PLOTS = ('.png', '.pdf', '.svg')
DENSE = dict(type='mmzeg.CLIPDensePoolScorer')
# What is changed of the config's scorer, or what stands in its place.
WAYS = {
    'exact': {},
    'masks merged': dict(merge_iou_thr=0.4),
    'masks merged, threshold': dict(
        merge_iou_thr=0.4, pruning=dict(type='mmzeg.ThresholdPruning', threshold=0.5, heard=0.4)
    ),
    'guaranteed': dict(pruning=dict(type='mmzeg.GuaranteedPruning')),
    'threshold 0.5': dict(pruning=dict(type='mmzeg.ThresholdPruning', threshold=0.5, heard=0.4)),
    'threshold 0.9': dict(pruning=dict(type='mmzeg.ThresholdPruning', threshold=0.9)),
    'masks alone, 0.8': dict(pruning=dict(type='mmzeg.ThresholdPruning', threshold=0.8, heard=0.3, objectness=False)),
    'box alone': dict(style='crop'),
    'one pass, 256 pixels': dict(DENSE, input_size=256),
    'one pass, with context': dict(DENSE, input_size=256, context=1),
    'one pass, 3 sizes, context': dict(DENSE, input_size=[208, 256, 320], context=1),
    'bfloat16': dict(clip=dict(precision='bf16')),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer on the world')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--data', choices=['val', 'test'], default='test', help='whose data loader')
    parser.add_argument('--plot', type=Path, help='picture of harmonic mean against time')
    parser.add_argument('--out', type=Path, help='JSON file of all rows')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def scorer_of(field: ConfigDict, change: dict) -> object:
    """The config's scorer with a change, or another one with its CLIP and prompts."""
    if 'type' in change:
        return build_scorer(change, like=field)
    changed = Config(dict(scorer=field.to_dict()))
    changed.merge_from_dict(dict(scorer=change))
    return MODELS.build(changed.scorer)


def measure(cfg: Config, checkpoint: str, data: str) -> list[dict]:
    """A row a way: scores, seconds a picture, segments asked about, pixels labelled as by the exact way."""
    runner, loader = load_for_evaluation(cfg, checkpoint, data)
    model = runner.model
    seen = model.vocabulary.seen_mask
    scorers = {name: scorer_of(cfg.model.scorer, change) for name, change in WAYS.items()}
    rows = {name: dict(way=name, areas=0, seconds=0.0, asked=0, same=0) for name in WAYS}
    pixels = 0
    for batch in track_iter_progress((loader, len(loader))):
        exact = {}
        for name, scorer in scorers.items():
            row, model.scorer = rows[name], scorer
            asked = _counted(model)
            began = time.perf_counter()
            samples = model.test_step(batch)
            row['seconds'] += time.perf_counter() - began
            row['asked'] += sum(asked)
            for place, sample in enumerate(samples):
                found, label = sample.pred_sem_seg.data[0], sample.gt_sem_seg.data[0]
                row['areas'] = row['areas'] + count_areas(found, label, len(seen), 255, sample.metainfo['img_path'])
                found = found.clone()
                row['same'] += int((found == exact.setdefault(place, found)).sum())
                pixels += found.numel() if name == 'exact' else 0
    pictures = len(loader.dataset)
    for row in rows.values():
        scores = summarize_areas(row.pop('areas'), seen)[0]
        row.update({score: scores[score] for score in SCORES})
        row.update(seconds=row['seconds'] / pictures, asked=row['asked'] / pictures, same=100 * row['same'] / pixels)
    return list(rows.values())


def _counted(model: torch.nn.Module) -> list[int]:
    """How many segments the scorer is asked about from now on, one number a call."""
    asked: list[int] = []
    ask = type(model)._ask.__get__(model)

    def counted(images: object, mask_logits: object, valid: object) -> object:
        asked.append(sum(len(masks.flatten(1).unique(dim=0)) for masks in mask_logits))
        return ask(images, mask_logits, valid)

    model._ask = counted
    return asked


def draw(rows: list[dict], path: Path) -> None:
    """Harmonic mean against time."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for row, marker in zip(rows, 'osDv^<>Pp*hX', strict=True):
        axes.plot(1000 * row['seconds'], row['hIoU'], marker, markersize=9, label=row['way'])
    axes.set(xlabel='milliseconds a picture', ylabel='harmonic mean of seen and unseen mIoU')
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=120))


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.plot and args.plot.suffix not in PLOTS:
        raise ValueError(f'--plot {args.plot}: end its name with {", ".join(PLOTS)}')
    cfg = read_config(args.config, args.cfg_options)
    require_scorer(cfg)
    rows = measure(cfg, args.checkpoint, args.data)
    table = PrettyTable(['way', *SCORES, 'ms a picture', 'segments asked', '% of pixels as exact'], align='r')
    for row in rows:
        scores = [f'{row[score]:.2f}' for score in SCORES]
        table.add_row(
            [row['way'], *scores, f'{1000 * row["seconds"]:.0f}', f'{row["asked"]:.1f}', f'{row["same"]:.2f}']
        )
    print(f'\n{table}')
    if args.out:
        write_json(args.out, rows)
    if args.plot:
        draw(rows, args.plot)


if __name__ == '__main__':
    with torch.no_grad():
        main()
