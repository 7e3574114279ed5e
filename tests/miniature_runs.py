"""Run the tools on miniature datasets."""

import os
import subprocess
from pathlib import Path

from python_runs import run_python

ROOT = Path(__file__).parents[1]
# A CLIP of a few layers with random weights.
CLIP = ROOT / 'tests/data/golden/r50_single/clip_openai_format.safetensors'
# 572 logits for every pixel of 512 x 512 would take too long on two cores.
SMALL_CROP = (
    'train_dataloader.dataset.pipeline.3.crop_size=(128,128)',
    'train_dataloader.dataset.pipeline.6.size=(128,128)',
)
SPLITS = ('train', 'val', 'test')


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a tool, given by its path in ``tools``, on one core; it must succeed."""
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    command = [str(ROOT / 'tools' / tool), *map(str, arguments)]
    result = run_python(command, ROOT, environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return result


def loaders(*splits: str) -> list[str]:
    """Return options by which the data loaders of splits have no worker processes."""
    fields = [f'{split}_dataloader.num_workers=0' for split in splits]
    return [*fields, *(f'{split}_dataloader.persistent_workers=False' for split in splits)]


def present(report: dict) -> list[str]:
    """Return the classes that have ground truth, from the content of a report.json."""
    return [row['name'] for row in report['classes'] if row['IoU'] is not None]
