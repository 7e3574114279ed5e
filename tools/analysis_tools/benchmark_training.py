"""Measure time and memory of a training iteration, for several configs and ways to train, interleaved in one run.

python tools/analysis_tools/benchmark_training.py configs/zegformer_r50_coco.py \
    --baselines mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py
"""

import argparse
from pathlib import Path

from mmengine.device import get_device

from mmzeg.benchmarking.repeats import describe_run
from mmzeg.benchmarking.training_benchmark import (
    WAYS,
    TrainingOptions,
    count_training_kernels,
    kernel_table,
    result_table,
    run_training_benchmark,
)
from mmzeg.utils.atomic import write_json
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', help='config files of ZegFormers; weights are random')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=['plain'], help='how these are trained')
    parser.add_argument(
        '--baselines',
        nargs='+',
        default=[],
        dest='other_configs',
        help="configs of other segmentors for comparison, mmseg::... for mmseg's own",
    )
    parser.add_argument(
        '--crop', nargs=2, type=int, default=[512, 512], metavar=('H', 'W'), dest='crop_size', help='in pixels'
    )
    parser.add_argument('--batch', type=int, default=2, dest='batch_size', help='images per iteration')
    parser.add_argument(
        '--classes', type=int, dest='num_classes', help="number of made-up classes that replace the config's"
    )
    parser.add_argument('--present', type=int, default=6, dest='classes_per_image', help='classes per image')
    parser.add_argument('--kernels', action='store_true', help='count kernels and host waits instead of measuring time')
    parser.add_argument('--random-clip', metavar='MODEL', help='an architecture of open_clip, with random weights')
    parser.add_argument('--repeats', type=int, default=3, help='repeats after one for warming up')
    parser.add_argument('--seed', type=int, default=0, help='of weights, images and labels')
    parser.add_argument('--device', default=get_device(), help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='JSON file for all results')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    options = vars(parse_args())
    json_file = options.pop('json')
    counts_kernels = options.pop('kernels')
    options = TrainingOptions(**options)
    height, width = options.crop_size
    inputs = f'{options.batch_size} x {height} x {width}'
    if counts_kernels:
        rows = count_training_kernels(options)
        print(f'{inputs}, {options.device}; kernels / host waits of an iteration without the optimizer')
        print(kernel_table(rows))
    else:
        rows, baseline = run_training_benchmark(options)
        print(describe_run(inputs, options.device, options.repeats))
        print(result_table(rows, baseline))
    if json_file:
        write_json(json_file, rows)


if __name__ == '__main__':
    main()
