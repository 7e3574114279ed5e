"""Label maps of 8 or 16 bits, exact, and refused where they are not what they should be."""

import io

import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmzeg.registry import TRANSFORMS

# One value a pixel: grey, palette, or grey of 16 bits under the names that versions of Pillow give it.
_MODES = ('L', 'P', '1', 'I', 'I;16', 'I;16B')


@TRANSFORMS.register_module()
class LoadLabels(LoadAnnotations):
    """In place of ``LoadAnnotations``, which cuts values to 8 bits and leaves those it does not know as they are.

    Adds ``gt_seg_map`` (H, W), uint8, or uint16 where the ignored value or a class is above 255.

    Raises:
        ValueError: Not a whole image, several channels, another size than its image, 8 bits where the ignored value
            needs 16, or a value that is no class; names the file.
    """

    def _load_seg_map(self, results: dict) -> None:
        # A picture alone: mmseg's inferencer leaves out its own transform, which it knows by name, but not this one.
        if results.get('seg_map_path') is None:
            return
        path = results['seg_map_path']
        ignored = results.get('ignore_index', 255)
        labels = read_label_map(path, fileio.get(path, backend_args=self.backend_args), ignored)
        height, width = results.get('ori_shape', labels.shape)[:2]
        if labels.shape != (height, width):
            raise ValueError(
                f'{path} is {labels.shape[1]} x {labels.shape[0]} pixels but its image {results["img_path"]} is '
                f'{width} x {height}: they must be of one size'
            )
        table = value_table(results.get('label_map'), results.get('reduce_zero_label', False), ignored)
        if table is not None:
            known = np.append(table, np.full(max(0, labels.max() + 1 - len(table)), -1))
            mapped = known[labels]
            if mapped.min() < 0:
                raise ValueError(
                    f'{path}: value {labels[mapped < 0][0]} is no class of the dataset, nor ignored: correct the label '
                    'map, or the list of classes'
                )
            labels = mapped
        results['gt_seg_map'] = labels.astype(np.uint8 if max(labels.max(), ignored) < 256 else np.uint16)
        results['seg_fields'].append('gt_seg_map')


def read_label_map(path: str, content: bytes, ignored: int) -> np.ndarray:
    """Values (H, W) int64 of the bytes of a label map.

    Raises:
        ValueError: They are none, or have 8 bits where ``ignored`` needs 16; names ``path``.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            mode, labels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path}: not a whole image ({error}): make or download it again') from error
    if mode not in _MODES:
        raise ValueError(
            f'{path}: a label map has one value a pixel, this one is of mode {mode}: write class indices as a grey or '
            'palette PNG'
        )
    if labels.itemsize == 1 and ignored > 255:
        # Its 255 may be a class or nothing, and its other values may be what was left of larger ones.
        raise ValueError(
            f'{path}: a label map of 8 bits in a dataset of 16, whose ignored value is {ignored}: make it again by its '
            'converter'
        )
    return labels.astype(np.int64)


def value_table(label_map: dict[int, int] | None, reduce_zero_label: bool, ignored: int) -> np.ndarray | None:
    """For every old value (V,) the new one, -1 where there is none; None: all stay as they are.

    Args:
        label_map (dict[int, int], optional): mmseg's, old value -> new, after zero is taken away.
        reduce_zero_label (bool): Whether 0 is ignored and every other value one too high.
        ignored (int): Value that is not counted.
    """
    if label_map is None and not reduce_zero_label:
        return None
    if label_map is None:
        label_map = {value: value for value in range(ignored)}
    # mmseg subtracts first and maps then; what it maps to its fixed 255 is what is ignored.
    shift = int(reduce_zero_label)
    table = np.full(max(ignored, *label_map) + 1 + shift, -1)
    for old, new in label_map.items():
        table[old + shift] = new
    table[ignored] = ignored
    if reduce_zero_label:
        table[0] = ignored
    return table
