"""Frames a second and memory over time of tools/demo.py on a video that is made for it.

python tools/analysis_tools/benchmark_video.py configs/zegformer_r18_world.py work_dirs/quickstart/iter_1000.pth
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.video import VideoWriter
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.utils.preflight import one_line_errors

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from demo import Output, segment_video  # noqa: E402
from measuring import resident  # noqa: E402

# Scenes of the video, and how often memory is read.
SCENES, LOOKS = 50, 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', nargs='?', help='checkpoint file; without one weights are random')
    parser.add_argument('--frames', type=int, default=2000, help='of the video')
    parser.add_argument('--size', type=int, default=128, help='height and width, in pixels')
    parser.add_argument('--device', help='cpu or cuda; by default a GPU if there is one')
    return parser.parse_args()


def make_video(path: Path, count: int, size: int) -> None:
    """A video of scenes that move to the left."""
    scenes = [draw_scene(Scene('test', index, size))[0][..., ::-1] for index in range(SCENES)]
    with VideoWriter(path, 25) as writer:
        for number in range(count):
            scene = scenes[number * SCENES // count]
            writer.write(np.ascontiguousarray(np.roll(scene, -number, 1)))


def watched(stream: Iterator[dict], count: int, used: list[float]) -> Iterator[dict]:
    """The same stream; memory in MiB is noted at its start and after every tenth."""
    for number, found in enumerate(stream):
        if number * LOOKS % count < LOOKS:
            used.append(resident() / 2**20)
        yield found
    used.append(resident() / 2**20)


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.frames < LOOKS:
        raise ValueError(f'--frames must be {LOOKS} or more, got {args.frames}')
    inferencer = ZeroShotInferencer(args.config, args.weights, args.device)
    with tempfile.TemporaryDirectory() as folder:
        path, used = Path(folder, 'scenes.mp4'), []
        make_video(path, args.frames, args.size)
        output = Output(Path(folder, 'found'), masks=False, segments=False)
        output.folder.mkdir()
        start = time.perf_counter()
        segment_video(watched(inferencer.stream(str(path)), args.frames, used), str(path), output)
        seconds = time.perf_counter() - start
    size, pace = f'{args.size} x {args.size}', args.frames / seconds
    print(f'{args.frames} frames of {size}: {pace:.1f} a second, reading, drawing and writing in it')
    print('resident MiB after every tenth: ' + ', '.join(f'{value:.0f}' for value in used))


if __name__ == '__main__':
    main()
