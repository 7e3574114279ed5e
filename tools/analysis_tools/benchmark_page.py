"""Measure how fast the demo page answers: 50 moves of each slider, for an image of 640 x 480 and 171 class names.

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
from mmzeg.apis.demo_page_events import EventHandlers
from mmzeg.apis.demo_session import Session
from mmzeg.datasets.world import CLASSES, Scene, draw_scene
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.tool_arguments import add_trust_argument

NUM_MOVES = 50
NUM_CLASSES = 171
WIDTH, HEIGHT = 640, 480


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', nargs='?', help='checkpoint file; without one the weights are random')
    add_trust_argument(parser)
    parser.add_argument('--device', help='cpu or cuda; defaults to a GPU if there is one')
    return parser.parse_args()


def timed(function, *arguments) -> tuple[float, object]:
    """Call a function; returns the milliseconds it took, and its result."""
    start = perf_counter()
    result = function(*arguments)
    return 1000 * (perf_counter() - start), result


def slider_settings(slider: str) -> list[tuple[float, float]]:
    """Return pairs of gamma and lambda while one slider moves from 0 to 1."""
    values = np.linspace(0, 1, NUM_MOVES).tolist()
    return [(value, 0.67) if slider == 'gamma' else (0.1, value) for value in values]


@one_line_errors
def main() -> None:
    args = parse_args()
    # Every class of the world under several names.
    names = [
        f'{CLASSES[index % len(CLASSES)]} {index // len(CLASSES)}'.removesuffix(' 0') for index in range(NUM_CLASSES)
    ]
    with tempfile.TemporaryDirectory() as folder:
        # An empty cache: text embeddings of new names are computed, not read.
        os.environ['MMZEG_CACHE'] = folder
        inferencer = ZeroShotInferencer(args.config, args.weights, args.device)
        handlers = EventHandlers(inferencer)
        path = Path(folder, 'scene.png')
        scene = draw_scene(Scene('test', 0, WIDTH))[0][:HEIGHT]
        Image.fromarray(scene).save(path)
        Session.start(inferencer, str(path))  # warm-up
        encode_ms, session = timed(Session.start, inferencer, str(path))
        new_names_ms, session = timed(session.classify, inferencer, names)
        cached_names_ms, session = timed(session.classify, inferencer, names)
    print(
        f'encode {encode_ms:.0f} ms, {NUM_CLASSES} new names {new_names_ms:.0f} ms, '
        f'the same names again {cached_names_ms:.0f} ms'
    )
    table = PrettyTable(['slider', 'median, ms', '95 %, ms'], align='r')
    for slider in ('gamma', 'lambda'):
        times = [timed(handlers.redraw, session, *pair)[0] for pair in slider_settings(slider)]
        table.add_row([slider, *(f'{value:.0f}' for value in np.percentile(times, [50, 95]))])
    print(table.get_string())


if __name__ == '__main__':
    main()
