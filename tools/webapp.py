"""A page in the browser: pictures, class names typed, seg, img and full side by side.

python tools/webapp.py configs/zegformer_r18_world.py work_dirs/quickstart/iter_1000.pth
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.image_reading import SUFFIXES
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', help='checkpoint file')
    parser.add_argument('--examples', type=Path, help='folder of pictures to offer; by default scenes are drawn')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0 lets other machines in')
    parser.add_argument('--port', type=int, help='by default the first free one from 7860 on')
    parser.add_argument('--max-upload', default='20mb', help='largest file that is taken')
    parser.add_argument('--device', help='cpu or cuda; by default a GPU if there is one')
    return parser.parse_args()


def example_files(folder: Path | None, drawn: Path) -> list[str]:
    """The pictures of a folder, or scenes that are drawn into another one.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
    """
    if folder is None:
        for index in range(5):
            scene = Scene('test', index, 256)
            Image.fromarray(draw_scene(scene)[0]).save(drawn / f'scene_{index}.png')
        folder = drawn
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of examples')
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f'{folder}: no picture in it')
    return found


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        raise ValueError(f'--port {args.port}: give a number from 1 to 65535')
    if not re.fullmatch(r'[1-9]\d*[kmg]?b', args.max_upload.lower()):
        raise ValueError(f'--max-upload {args.max_upload}: give a size such as 500kb, 20mb or 1gb')
    # Stopped by a service manager it tidies up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix='mmzeg_page_') as folder:
        # Read by Gradio as it is imported. Uploads go where they vanish with the server, also if they are young.
        os.environ.update(GRADIO_ANALYTICS_ENABLED='False', GRADIO_TEMP_DIR=f'{folder}/cache')
        try:
            from mmzeg.apis.demo_page import build_page, serve
        except ModuleNotFoundError as error:
            raise ValueError(f'{error.name} is not installed: pip install "gradio>=6.31,<7"') from error
        drawn = Path(folder, 'examples')
        drawn.mkdir()
        examples = example_files(args.examples, drawn)
        page = build_page(ZeroShotInferencer(args.config, args.weights, args.device), examples)
        print(f'the page is at {serve(page, args.host, args.port, args.max_upload)}; Ctrl-C stops it', flush=True)
        page.block_thread()


if __name__ == '__main__':
    main()
