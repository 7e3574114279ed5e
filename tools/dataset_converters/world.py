"""Write the procedural world to disk in mmseg's layout.

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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='folder to write; a run that was stopped is gone on with')
    for split in ('train', 'val', 'test'):
        parser.add_argument(f'--{split}', type=int, default=0, help=f'number of {split} scenes')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0, help='another world of the same kinds')
    parser.add_argument('--unseen-share', type=float, default=1.0, help='of unseen kinds in the training scenes')
    return parser.parse_args()


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG that is whole or not there."""
    atomic_write(path, lambda partial: image.save(partial, format='PNG'))


@one_line_errors
def main() -> None:
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    fields = dict(size=args.size, seed=args.seed, unseen_share=args.unseen_share)
    split_file = args.out / 'world.json'
    content = json.dumps(
        dict(fields, seen=SEEN, unseen=UNSEEN, label_value={name: index for index, name in enumerate(CLASSES)}),
        indent=1,
    )
    if not split_file.exists():
        atomic_write(split_file, lambda partial: partial.write_text(content))
    elif split_file.read_text() != content:
        raise ValueError(f'{split_file}: another world is in this folder; write to a new one, or remove it')
    for split in ('train', 'val', 'test'):
        count = getattr(args, split)
        if not count:
            continue
        images, labels = args.out / 'images' / split, args.out / 'annotations' / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in track_iter_progress(range(count), file=sys.stderr):
            name = f'{index:06d}.png'
            if (labels / name).exists():  # written last
                continue
            share = args.unseen_share if split == 'train' else 1.0
            picture, label = draw_scene(Scene(split, index, args.size, share, args.seed))
            save(Image.fromarray(picture), images / name)
            save(Image.fromarray(label), labels / name)


if __name__ == '__main__':
    main()
