"""Measure time, operations and memory of a test image, for several configs and scorers, interleaved in one run.

python tools/analysis_tools/benchmark.py configs/zegformer_r50_coco.py --random-clip ViT-B-16 --empties 0 60
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.device import get_device

from mmzeg.benchmarking.inference_benchmark import (
    kernel_table,
    result_table,
    run_inference_benchmark,
    run_kernel_count,
)
from mmzeg.benchmarking.inference_cases import InferenceOptions
from mmzeg.benchmarking.inference_variants import DEFAULT_VARIANTS, VARIANTS
from mmzeg.benchmarking.repeats import describe_run
from mmzeg.clip.clip import PRECISIONS
from mmzeg.models.execution import MODES
from mmzeg.utils.atomic import write_json
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', help='config files of ZegFormers; weights are random')
    parser.add_argument(
        '--variants',
        nargs='+',
        choices=VARIANTS,
        default=DEFAULT_VARIANTS,
        help='scorers; each is measured with every config and CLIP that it fits',
    )
    parser.add_argument(
        '--baselines',
        nargs='+',
        default=[],
        dest='other_configs',
        help="configs of other segmentors for comparison, mmseg::... for mmseg's own",
    )
    parser.add_argument('--batch', type=int, default=1, dest='batch_size', help='images per batch')
    parser.add_argument('--image-size', nargs=2, type=int, default=[640, 853], metavar=('H', 'W'), help='in pixels')
    parser.add_argument(
        '--original-size', nargs=2, type=int, metavar=('H', 'W'), help='of the label map; defaults to --image-size'
    )
    parser.add_argument(
        '--executions', nargs='+', choices=MODES, default=['auto'], help='how inference is cut into operations'
    )
    parser.add_argument(
        '--kernels', action='store_true', help='count kernels and host waits per stage instead of measuring time'
    )
    parser.add_argument(
        '--empties', nargs='+', type=int, default=[0], dest='num_empty_masks', help='number of masks that become empty'
    )
    parser.add_argument(
        '--like',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        dest='trained',
        help='use masks and no-object scores of this trained model',
    )
    parser.add_argument(
        '--random-clip',
        nargs='+',
        default=[],
        metavar='MODEL',
        dest='random_clips',
        help='architectures of open_clip, with random weights',
    )
    parser.add_argument('--precision', choices=list(PRECISIONS), help="of CLIP; not of the reference's")
    parser.add_argument(
        '--classes', type=int, dest='num_classes', help="number of made-up classes that replace the config's"
    )
    parser.add_argument('--repeats', type=int, default=3, help='repeats after one for warming up')
    parser.add_argument('--seed', type=int, default=0, help='of weights and images')
    parser.add_argument('--device', default=get_device(), help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='JSON file for all results')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    options = vars(parse_args())
    json_file = options.pop('json')
    counts_kernels = options.pop('kernels')
    options = InferenceOptions(**options)
    height, width = options.image_size
    inputs = f'{options.batch_size} x {height} x {width}'
    if counts_kernels:
        rows = run_kernel_count(options)
        print(f'{inputs}, {options.device}; kernels / host waits of a batch')
        print(kernel_table(rows))
    else:
        rows = run_inference_benchmark(options)
        print(describe_run(inputs, options.device, options.repeats))
        print(result_table(rows))
    if json_file:
        write_json(json_file, rows)


if __name__ == '__main__':
    main()
