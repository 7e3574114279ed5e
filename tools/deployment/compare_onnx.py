"""Compare an exported model with PyTorch, in what they find and in time, picture by picture in turns.

python tools/deployment/compare_onnx.py CONFIG WEIGHTS FOLDER photo.jpg

Without pictures, the first ones of the config's test dataset.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from export_onnx import load
from mmengine.config import DictAction
from mmseg.registry import DATASETS
from prettytable import PrettyTable

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment.onnx_runner import OnnxRunner, fuse
from mmzeg.apis.image_reading import expand, read_image
from mmzeg.utils.preflight import one_line_errors

COLUMNS = ('class logits', 'mask logits', 'CLIP logits', 'scores')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', help='checkpoint file')
    parser.add_argument('folder', type=Path, help='what export_onnx.py wrote of these two')
    parser.add_argument('pictures', nargs='*', help='files, folders or patterns')
    parser.add_argument('--count', type=int, default=5, help='pictures of the test dataset, if none is named')
    parser.add_argument('--repeats', type=int, default=3, help='timed passes a picture, after one for warming up')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def test_pictures(cfg: dict, count: int) -> Iterator[np.ndarray]:
    """The first pictures (H, W, 3) BGR of the test dataset, before its pipeline."""
    dataset = DATASETS.build(cfg)
    for index in range(min(count, len(dataset))):
        yield dataset.pipeline.transforms[0](dataset.get_data_info(index))['img']


def timed(function: Callable, *inputs: object) -> tuple[object, float]:
    """What a function gives, and its seconds."""
    start = time.perf_counter()
    found = function(*inputs)
    return found, time.perf_counter() - start


def differences(inferencer: ZeroShotInferencer, runner: OnnxRunner, picture: np.ndarray) -> list[float]:
    """The greatest difference of each of ``COLUMNS``, NaN where CLIP is not asked."""
    fusion, opinions = inferencer.fusion(), inferencer.classify(inferencer.encode(picture))
    wanted = opinions.class_logits, opinions.mask_logits, opinions.clip_logits, opinions.scores(fusion)
    found = runner.predict_logits(runner.resized(read_image(picture)), opinions.vocabulary.names, fusion.needs_scorer)
    found = [*found, fuse(found[0], found[2], opinions.seen.numpy(), fusion.mode, fusion.lam)]
    return [
        np.nan if ours is None else np.abs(ours - theirs.numpy()).max()
        for ours, theirs in zip(found, wanted, strict=True)
    ]


def compare(inferencer: ZeroShotInferencer, runner: OnnxRunner, picture: np.ndarray, repeats: int) -> list:
    """A row: size, differences, % of pixels with the same label, seconds of PyTorch and of ONNX, and their ratio."""

    @torch.no_grad()
    def by_torch() -> np.ndarray:
        data = inferencer.collate_fn([inferencer.pipeline(dict(img=picture))])
        return inferencer.model.test_step(data)[0].pred_sem_seg.data[0].numpy()

    def by_onnx() -> np.ndarray:
        return runner(picture, runner.settings['classes'])['label_map']

    same = 100 * (by_torch() == by_onnx()).mean()
    seconds = [[timed(way)[1] for way in (by_torch, by_onnx)] for _ in range(repeats)]
    pair = [median(column) for column in zip(*seconds, strict=True)]
    return [
        f'{picture.shape[1]} x {picture.shape[0]}',
        *(f'{difference:.1e}' for difference in differences(inferencer, runner, picture)),
        f'{same:.2f}',
        *(f'{value:.3f}' for value in pair),
        f'{pair[0] / pair[1]:.2f}',
    ]


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.repeats < 1:
        raise ValueError(f'--repeats must be 1 or more, got {args.repeats}')
    runner = OnnxRunner(args.folder, threads=torch.get_num_threads())
    inferencer = load(args.config, args.weights, args.cfg_options)
    if args.pictures:
        pictures = (np.ascontiguousarray(read_image(path)[..., ::-1]) for path in expand(args.pictures))
    else:
        pictures = test_pictures(inferencer.cfg.test_dataloader.dataset, args.count)
    table = PrettyTable(['size', *COLUMNS, '% same', 's PyTorch', 's ONNX', 'x'], align='r')
    for picture in pictures:
        table.add_row(compare(inferencer, runner, picture, args.repeats))
    print(table)


if __name__ == '__main__':
    main()
