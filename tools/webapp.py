"""Serve the demo page: an image, typed class names, and the results of the modes seg, img and full.

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
from mmzeg.datasets.world import Scene, draw_scene
from mmzeg.publishing.model_arguments import add_model_arguments, parse_model_arguments
from mmzeg.utils.image_decoding import IMAGE_SUFFIXES
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument('--examples', type=Path, help='folder of example images; defaults to drawn scenes')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0 lets other machines in')
    parser.add_argument('--port', type=int, help='defaults to the first free one from 7860 on')
    parser.add_argument('--max-upload', default='20mb', help='size of the largest file')
    parser.add_argument('--device', help='cpu or cuda; defaults to a GPU if there is one')
    return parse_model_arguments(parser)


def example_files(folder: Path | None, scene_folder: Path) -> list[str]:
    """Return the image files of a folder; without one, draw scenes into ``scene_folder``.

    Raises:
        FileNotFoundError: No such folder, or no image in it.
    """
    if folder is None:
        for index in range(5):
            image = draw_scene(Scene('test', index, 256))[0]
            Image.fromarray(image).save(scene_folder / f'scene_{index}.png')
        folder = scene_folder
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of examples')
    files = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f'{folder}: no image in it')
    return files


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        raise ValueError(f'--port {args.port}: give a number from 1 to 65535')
    if not re.fullmatch(r'[1-9]\d*[kmg]?b', args.max_upload.lower()):
        raise ValueError(f'--max-upload {args.max_upload}: give a size such as 500kb, 20mb or 1gb')
    # A service manager stops it by SIGTERM: exit as usual, so that the temporary folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix='mmzeg_page_') as folder:
        # Gradio reads these when it is imported. Uploads are in the temporary folder, removed with the server.
        os.environ.update(GRADIO_ANALYTICS_ENABLED='False', GRADIO_TEMP_DIR=f'{folder}/cache')
        try:
            from mmzeg.apis.demo_page import build_page, serve
        except ModuleNotFoundError as error:
            raise ValueError(f'{error.name} is not installed: pip install "gradio>=6.31,<7"') from error
        scene_folder = Path(folder, 'examples')
        scene_folder.mkdir()
        examples = example_files(args.examples, scene_folder)
        page = build_page(ZeroShotInferencer(args.config, args.checkpoint, args.device), examples)
        address = serve(page, args.host, args.port, args.max_upload)
        print(f'the page is at {address}; Ctrl-C stops it', flush=True)
        page.block_thread()


if __name__ == '__main__':
    main()
