"""A copy of a labelled folder in which uncertain pixels are ignored, without running the network again."""

import json
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.labelling.manifest import read_manifest
from mmzeg.labelling.student import write_student_configs
from mmzeg.labelling.uncertain_pixels import ignore_uncertain_pixels, label_statistics
from mmzeg.utils.atomic import atomic_write


def ignore_pixels(labelled: Path, out: Path, ignore_below: float) -> list[dict]:
    """Write label maps, splits and configs of a student, as ``tools/label.py --ignore-below`` does.

    Saved margins have 8 bits: pixels whose margin is within 1/510 of the bound may be ignored or not.

    Args:
        labelled (Path): A folder that ``tools/label.py --save-scores`` wrote.
        out (Path): The folder to write to.
        ignore_below (float): Pixels of a lower margin are ignored, in [0, 1].

    Returns:
        list[dict]: A row for every label map, as of ``read_manifest``.

    Raises:
        FileNotFoundError: ``labelled`` has no manifest, or no margins.
        ValueError: A split of ``out`` would be empty.
    """
    description = json.loads((labelled / 'classes.json').read_text())
    names = description['classes']
    ignore_index = description['ignore_index']
    rows = []
    for row in read_manifest(labelled):
        if row['error'] is not None:
            continue
        name = PurePosixPath(row['file']).with_suffix('.png')
        labels = np.array(Image.open(labelled / 'annotations' / name))
        margins = np.asarray(Image.open(labelled / 'scores' / name)) / np.float32(255)
        ignore_uncertain_pixels(labels, margins, ignore_below, ignore_index)
        content = indexed_png(labels, len(names), ignore_index)
        path = out / 'annotations' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda partial, content=content: partial.write_bytes(content))
        rows.append(row | label_statistics(labels, margins, names, ignore_index))
    shutil.copyfile(labelled / 'classes.json', out / 'classes.json')
    write_student_configs(out, rows)
    return rows
