"""Files of predictions: drawings, label maps as PNG, segments as JSON with COCO RLE masks."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mmzeg.apis.drawing import encode_image_file, indexed_png, overlay
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.relative_names import relative_name


class PredictionWriter:
    """Write predictions to a folder; every file is complete or does not exist.

    Drawings are in the folder itself, label maps in ``masks``, segments in ``segments``.

    Args:
        folder (Path): An existing folder.
        save_masks (bool): Whether to write label maps. Defaults to False.
        save_segments (bool): Whether to write segments; they need a ``mask``. Defaults to False.
        sources (Sequence[str | int]): All inputs; those of different folders with the same stem keep their folders.
    """

    def __init__(
        self, folder: Path, save_masks: bool = False, save_segments: bool = False, sources: Sequence[str | int] = ()
    ) -> None:
        self.folder = folder
        self.save_masks = save_masks
        self.save_segments = save_segments
        paths = [Path(source) for source in sources if not isinstance(source, int)]
        num_of_stem = Counter(path.stem.lower() for path in paths)
        self._repeated_stems = {stem for stem, number in num_of_stem.items() if number > 1}
        self._source_folders = [path.parent for path in paths]
        self._used_stems: set[str] = set()

    def unique_stem(self, source: str | int) -> str:
        """Return the name of an input's files, without suffix.

        The input's stem; below its folder if an input of another folder has the same stem (``seq0/0000``); with a
        number if an earlier input has the same name.
        """
        stem = f'camera{source}' if isinstance(source, int) else Path(source).stem
        if stem.lower() in self._repeated_stems:
            stem = Path(relative_name(source, self._source_folders)).with_suffix('').as_posix()
        unique = stem
        number = 2
        while unique.lower() in self._used_stems:
            unique = f'{stem}-{number}'
            number += 1
        self._used_stems.add(unique.lower())
        return unique

    def write_drawing(self, stem: str, item: dict) -> None:
        """Write the drawing of an item of ``ZeroShotInferencer.stream`` as JPEG."""
        drawing = Image.fromarray(draw_item(item))
        save_file(self.folder / f'{stem}.jpg', encode_image_file(drawing, 'JPEG', quality=95))

    def write(self, stem: str, item: dict) -> None:
        """Write label map and segments of an item of ``ZeroShotInferencer.stream``, if they are to be saved."""
        prediction = item['prediction']
        label_map = prediction['label_map']
        if self.save_masks:
            save_file(self.folder / f'masks/{stem}.png', indexed_png(label_map, len(prediction['classes'])))
        if self.save_segments:
            height, width = label_map.shape
            content = dict(input=str(item['input']), height=height, width=width)
            content['segments'] = [encode_mask(segment) for segment in prediction['segments']]
            save_file(self.folder / f'segments/{stem}.json', content)

    def write_classes(self, names: list[str]) -> None:
        """Write the class names by their index in label maps."""
        save_file(self.folder / 'masks/classes.json', dict(enumerate(names)))


def draw_item(item: dict, fixed_layout: bool = False) -> np.ndarray:
    """Draw an item of ``ZeroShotInferencer.stream``; returns (H, W', 3) uint8 RGB, see ``overlay``."""
    prediction = item['prediction']
    names = prediction['classes']
    return overlay(
        item['image'], prediction['label_map'], names, unseen=prediction['unseen'], fixed_layout=fixed_layout
    )


def encode_mask(segment: dict) -> dict:
    """Return a segment with ``segmentation``, its mask as COCO RLE, in place of ``mask``, (H, W) bool."""
    rle = coco_mask.encode(np.asfortranarray(segment['mask'], np.uint8))
    rle['counts'] = rle['counts'].decode()
    fields = {key: value for key, value in segment.items() if key != 'mask'}
    return fields | dict(segmentation=rle)


def save_file(path: Path, content: bytes | dict) -> None:
    """Write bytes, or a dict as JSON, atomically; creates the folder if needed.

    Raises:
        OSError: It cannot be written; names the file.
    """
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic_write(path, lambda partial: partial.write_bytes(content))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
