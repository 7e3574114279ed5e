"""Measure frames per second and memory over time of tools/demo.py, on a video of drawn scenes.

python tools/analysis_tools/benchmark_video.py configs/zegformer_r18_world.py work_dirs/quickstart/iter_1000.pth
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.prediction_writer import PredictionWriter
from mmzeg.apis.segment_files import segment_video
from mmzeg.apis.video import VideoWriter
from mmzeg.benchmarking.time_and_memory import resident_bytes
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument

NUM_SCENES = 50
# How often memory is read.
NUM_READINGS = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', nargs='?', help='checkpoint file; without one the weights are random')
    add_trust_argument(parser)
    parser.add_argument('--frames', type=int, default=2000, help='number of frames of the video')
    parser.add_argument('--size', type=int, default=128, help='height and width, in pixels')
    parser.add_argument('--device', help='cpu or cuda; defaults to a GPU if there is one')
    return parser.parse_args()


def make_video(path: Path, num_frames: int, size: int) -> None:
    """Write a video of scenes that move to the left."""
    scenes = [draw_scene(Scene('test', index, size))[0][..., ::-1] for index in range(NUM_SCENES)]
    with VideoWriter(path, 25) as video:
        for number in range(num_frames):
            scene = scenes[number * NUM_SCENES // num_frames]
            video.write(np.ascontiguousarray(np.roll(scene, -number, 1)))


def with_memory_readings(stream: Iterator[dict], num_frames: int, readings: list[float]) -> Iterator[dict]:
    """Yield the items of a stream; appends the memory in MiB at the start and after every tenth."""
    for number, item in enumerate(stream):
        if number * NUM_READINGS % num_frames < NUM_READINGS:
            readings.append(resident_bytes() / 2**20)
        yield item
    readings.append(resident_bytes() / 2**20)


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.frames < NUM_READINGS:
        raise ValueError(f'--frames must be {NUM_READINGS} or more, got {args.frames}')
    inferencer = ZeroShotInferencer(args.config, args.weights, args.device)
    readings = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'scenes.mp4')
        make_video(path, args.frames, args.size)
        output_folder = Path(folder, 'results')
        output_folder.mkdir()
        start = time.perf_counter()
        stream = with_memory_readings(inferencer.stream(str(path)), args.frames, readings)
        segment_video(stream, str(path), PredictionWriter(output_folder))
        seconds = time.perf_counter() - start
    fps = args.frames / seconds
    print(f'{args.frames} frames of {args.size} x {args.size}: {fps:.1f} per second, with reading, drawing and writing')
    print('resident MiB after every tenth: ' + ', '.join(f'{reading:.0f}' for reading in readings))


if __name__ == '__main__':
    main()
