"""Compare an exported model with PyTorch: differences of the outputs, and time per image, measured in turns.

python tools/deployment/compare_onnx.py CONFIG WEIGHTS FOLDER image.jpg

Without images, the first ones of the config's test dataset.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.config import DictAction
from mmseg.registry import DATASETS
from prettytable import PrettyTable

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.image_reading import expand_inputs
from mmzeg.deployment import OnnxRunner
from mmzeg.utils.config_files import read_config
from mmzeg.utils.image_decoding import read_image
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument

OUTPUTS = ('class logits', 'mask logits', 'CLIP logits', 'scores')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', help='checkpoint file')
    add_trust_argument(parser)
    parser.add_argument('folder', type=Path, help='folder that export_onnx.py wrote of these two')
    parser.add_argument('images', nargs='*', help='files, folders or patterns')
    parser.add_argument('--count', type=int, default=5, help='images of the test dataset, if none is named')
    parser.add_argument('--repeats', type=int, default=3, help='timed passes per image, after one for warming up')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def test_images(cfg: dict, count: int) -> Iterator[np.ndarray]:
    """Yield the first images (H, W, 3) BGR of a test dataset, before its pipeline."""
    dataset = DATASETS.build(cfg)
    for index in range(min(count, len(dataset))):
        yield dataset.pipeline.transforms[0](dataset.get_data_info(index))['img']


def seconds_of(function: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def greatest_differences(inferencer: ZeroShotInferencer, runner: OnnxRunner, image: np.ndarray) -> list[float]:
    """Return the greatest difference of each of ``OUTPUTS``; NaN for CLIP logits that the fusion does not need."""
    # Predict by PyTorch
    fusion = inferencer.fusion()
    predictions = inferencer.classify(inferencer.encode(image))
    by_torch = [
        predictions.class_logits,
        predictions.mask_logits,
        predictions.clip_logits,
        predictions.scores(fusion),
    ]
    # Predict by ONNX
    vocabulary = predictions.vocabulary
    resized = runner.resize(read_image(image))
    by_onnx = [*runner.predict_logits(resized, vocabulary.names, fusion.needs_scorer)]
    by_onnx.append(runner.fuse(by_onnx[0], by_onnx[2], np.array(vocabulary.seen_mask), fusion.mode, fusion.lam))
    return [
        np.nan if output is None else np.abs(output - expected.numpy()).max()
        for output, expected in zip(by_onnx, by_torch, strict=True)
    ]


def compare(inferencer: ZeroShotInferencer, runner: OnnxRunner, image: np.ndarray, repeats: int) -> list:
    """Return a table row: size, differences, % of equal labels, seconds of PyTorch and of ONNX, and their ratio."""

    @torch.no_grad()
    def by_torch() -> np.ndarray:
        data = inferencer.collate_fn([inferencer.pipeline(dict(img=image))])
        return inferencer.model.test_step(data)[0].pred_sem_seg.data[0].numpy()

    def by_onnx() -> np.ndarray:
        return runner(image, runner.settings['classes'])['label_map']

    equal = 100 * (by_torch() == by_onnx()).mean()
    # In turns, so that both see the same load of the machine
    seconds = [[seconds_of(function) for function in (by_torch, by_onnx)] for _ in range(repeats)]
    torch_seconds, onnx_seconds = (median(column) for column in zip(*seconds, strict=True))
    return [
        f'{image.shape[1]} x {image.shape[0]}',
        *(f'{difference:.1e}' for difference in greatest_differences(inferencer, runner, image)),
        f'{equal:.2f}',
        f'{torch_seconds:.3f}',
        f'{onnx_seconds:.3f}',
        f'{torch_seconds / onnx_seconds:.2f}',
    ]


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.repeats < 1:
        raise ValueError(f'--repeats must be 1 or more, got {args.repeats}')
    runner = OnnxRunner(args.folder, threads=torch.get_num_threads())
    inferencer = ZeroShotInferencer(read_config(args.config, args.cfg_options), args.weights, device='cpu')
    if args.images:
        images = (np.ascontiguousarray(read_image(path)[..., ::-1]) for path in expand_inputs(args.images))
    else:
        images = test_images(inferencer.cfg.test_dataloader.dataset, args.count)
    table = PrettyTable(['size', *OUTPUTS, 'equal labels, %', 'PyTorch, s', 'ONNX, s', 'speed, PyTorch = 1'], align='r')
    for image in images:
        table.add_row(compare(inferencer, runner, image, args.repeats))
    print(table)


if __name__ == '__main__':
    main()
