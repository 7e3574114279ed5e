"""Measure the loading of training images: milliseconds per transform, and images per second and worker.

python tools/analysis_tools/benchmark_loading.py configs/zegformer_r50_coco.py --synthetic 60
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from mmengine.config import DictAction

from mmzeg.benchmarking.loading_benchmark import (
    LoadingOptions,
    describe_threads,
    run_loading_benchmark,
    transform_table,
    worker_table,
    write_random_coco,
)
from mmzeg.utils.atomic import write_json
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file whose train_dataloader is measured')
    parser.add_argument('--images', type=int, default=120, dest='num_images', help='images per measurement')
    parser.add_argument('--workers', nargs='+', type=int, default=[1, 2], help='numbers of worker processes')
    parser.add_argument('--batch', type=int, default=16, dest='batch_size', help='images per batch')
    parser.add_argument(
        '--synthetic', type=int, metavar='N', help='use N random images of 640 x 480 in the layout of COCO-Stuff'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the random transforms')
    parser.add_argument('--json', type=Path, help='JSON file for all results')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    fields = vars(parse_args())
    json_file = fields.pop('json')
    num_synthetic = fields.pop('synthetic')
    with ExitStack() as stack:
        if num_synthetic:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_random_coco(root, num_synthetic)
            data_root = {'train_dataloader.dataset.data_root': str(root)}
            fields['cfg_options'] = (fields['cfg_options'] or {}) | data_root
        transforms, workers = run_loading_benchmark(LoadingOptions(**fields))
    print(describe_threads())
    print(transform_table(transforms))
    print(worker_table(workers))
    if json_file:
        write_json(json_file, dict(transforms=transforms, workers=workers))


if __name__ == '__main__':
    main()
