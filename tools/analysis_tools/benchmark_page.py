"""How fast the page of tools/webapp.py answers a slider: 50 moves on a picture of 640 x 480 and 171 class names.

python tools/analysis_tools/benchmark_page.py configs/zegformer_r18_world.py work_dirs/quickstart/iter_1000.pth
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image
from prettytable import PrettyTable

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.demo_page import Actions
from mmzeg.apis.demo_session import Session
from mmzeg.datasets.world import CLASSES, Scene, draw_scene
from mmzeg.utils.preflight import one_line_errors

MOVES, NAMES, WIDTH, HEIGHT = 50, 171, 640, 480


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', nargs='?', help='checkpoint file; without one weights are random')
    parser.add_argument('--device', help='cpu or cuda; by default a GPU if there is one')
    return parser.parse_args()


def timed(call, *arguments) -> tuple[float, object]:
    """Milliseconds of a call, and what it returned."""
    start = perf_counter()
    result = call(*arguments)
    return 1000 * (perf_counter() - start), result


def settings(slider: str) -> list[tuple[float, float]]:
    """Pairs of gamma and lambda as one slider goes from 0 to 1."""
    values = np.linspace(0, 1, MOVES).tolist()
    return [(value, 0.67) if slider == 'gamma' else (0.1, value) for value in values]


@one_line_errors
def main() -> None:
    args = parse_args()
    # Every kind of the world under several names.
    names = [f'{CLASSES[index % len(CLASSES)]} {index // len(CLASSES)}'.removesuffix(' 0') for index in range(NAMES)]
    with tempfile.TemporaryDirectory() as folder:
        # New names are to be embedded, not read.
        os.environ['MMZEG_CACHE'] = folder
        inferencer = ZeroShotInferencer(args.config, args.weights, args.device)
        actions = Actions(inferencer)
        path = Path(folder, 'scene.png')
        scene = draw_scene(Scene('test', 0, WIDTH))[0][:HEIGHT]
        Image.fromarray(scene).save(path)
        Session.begin(inferencer, str(path))  # for warming up
        look, visit = timed(Session.begin, inferencer, str(path))
        first, visit = timed(visit.named, inferencer, names)
        again, visit = timed(visit.named, inferencer, names)
    print(f'look {look:.0f} ms, {NAMES} new names {first:.0f} ms, the same names again {again:.0f} ms')
    table = PrettyTable(['slider', 'median, ms', '95 %, ms'], align='r')
    for slider in ('gamma', 'lambda'):
        times = [timed(actions.move, visit, *pair)[0] for pair in settings(slider)]
        table.add_row([slider, *(f'{value:.0f}' for value in np.percentile(times, [50, 95]))])
    print(table.get_string())


if __name__ == '__main__':
    main()
