"""Small runs of the labelling engine: images, weights, and the tool as a process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.datasets.world import Scene, draw_scene

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'configs/zegformer_r18_world.py'
# Two sizes, subfolders, JPEG and PNG.
SIDES = (64, 48)


def save_weights(path: Path) -> ZeroShotInferencer:
    """Save random weights of the procedural dataset's model, and return the model."""
    torch.manual_seed(0)
    inferencer = ZeroShotInferencer(CONFIG, device='cpu')
    torch.save(dict(state_dict=inferencer.model.state_dict()), path)
    return inferencer


def save_images(folder: Path, count: int) -> list[str]:
    """Save images in two subfolders, and return their names, sorted."""
    names = []
    for number in range(count):
        name = f'seq{number % 2}/{number:03d}.{"png" if number % 3 else "jpg"}'
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = draw_scene(Scene('test', number, 64))[0]
        Image.fromarray(np.ascontiguousarray(image[: SIDES[number % 2]])).save(path)
        names.append(name)
    return sorted(names)


def label_maps(out: Path) -> dict[str, bytes]:
    """Return the content of all label maps and score maps by name."""
    paths = [path for folder in ('annotations', 'scores') for path in (out / folder).rglob('*') if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def without_seconds(rows: list[dict]) -> list[dict]:
    """Return rows of a manifest without the field that differs from run to run."""
    return [{key: value for key, value in row.items() if key != 'seconds'} for row in rows]


# Runs a tool with 0.1 seconds a file, so that a test has the time to kill it.
SLOW = """
import runpy, sys, time
from mmzeg.labelling.storage import Storage
read = Storage.read
def slow_read(storage, name):
    time.sleep(0.1)
    return read(storage, name)
Storage.read = slow_read
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
# Runs a tool that can write 700 bytes a file once the model is built: less than the palette of a label map.
LIMITED = """
import resource, runpy, sys
from mmzeg.labelling.label_writer import LabelWriter
init = LabelWriter.__init__
def limited_init(*arguments):
    init(*arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
LabelWriter.__init__ = limited_init
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def start_tool(*arguments: object, launcher: tuple[str, ...] = (), **options: object) -> subprocess.Popen:
    """Start tools/label.py as a process on one core; ``launcher`` are the arguments of python before the tool's."""
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, *launcher, str(ROOT / 'tools/label.py'), *map(str, arguments)]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment, **streams | options)


def run_tool(*arguments: object, **options: object) -> tuple[int, str, str]:
    """Run tools/label.py; returns its exit code, stdout and stderr."""
    process = start_tool(*arguments, **options)
    output, errors = process.communicate(timeout=600)
    return process.returncode, output, errors
