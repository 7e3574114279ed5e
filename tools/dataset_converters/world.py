"""Write the procedural dataset to disk in mmseg's layout.

python tools/dataset_converters/world.py data/world --train 4000 --val 200 --test 500
"""

import argparse
import json
import sys
from pathlib import Path

from mmengine.utils import track_iter_progress
from PIL import Image

from mmzeg.datasets.world import CLASSES, SEEN, UNSEEN, Scene, draw_scene
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='output folder; an interrupted run is resumed')
    for split in SPLITS:
        parser.add_argument(f'--{split}', type=int, default=0, help=f'number of {split} scenes')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of the world: other scenes of the same classes')
    parser.add_argument(
        '--unseen-frequency',
        type=float,
        default=1.0,
        help='frequency of unseen classes in training, relative to seen ones',
    )
    return parser.parse_args()


def write_description(args: argparse.Namespace) -> None:
    """Write ``world.json``, which describes the world of a folder; raise ValueError if it is another world's."""
    path = args.out / 'world.json'
    label_values = {name: value for value, name in enumerate(CLASSES)}
    description = dict(
        size=args.size,
        seed=args.seed,
        unseen_frequency=args.unseen_frequency,
        seen=SEEN,
        unseen=UNSEEN,
        label_value=label_values,
    )
    content = json.dumps(description, indent=1)
    if not path.exists():
        atomic_write(path, lambda partial: partial.write_text(content))
    elif path.read_text() != content:
        raise ValueError(f'{path}: another world is in this folder; write to a new folder, or remove it')


def write_split(args: argparse.Namespace, split: str, num_scenes: int) -> None:
    """Write the images and label maps of a split; skip scenes that are already written."""
    image_dir = args.out / 'images' / split
    label_dir = args.out / 'annotations' / split
    image_dir.mkdir(parents=True, exist_ok=True)
    label_dir.mkdir(parents=True, exist_ok=True)
    unseen_frequency = args.unseen_frequency if split == 'train' else 1.0
    for index in track_iter_progress(range(num_scenes), file=sys.stderr):
        name = f'{index:06d}.png'
        # The label map is written last, so it marks a written scene.
        if (label_dir / name).exists():
            continue
        image, label_map = draw_scene(Scene(split, index, args.size, unseen_frequency, args.seed))
        save_png(Image.fromarray(image), image_dir / name)
        save_png(Image.fromarray(label_map), label_dir / name)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG file atomically."""
    atomic_write(path, lambda partial: image.save(partial, format='PNG'))


@one_line_errors
def main() -> None:
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_description(args)
    for split in SPLITS:
        num_scenes = getattr(args, split)
        if num_scenes:
            write_split(args, split, num_scenes)


if __name__ == '__main__':
    main()
