"""Load label maps of 8 or 16 bits exactly, and refuse what is no label map of the dataset."""

import io

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image, UnidentifiedImageError

from mmzeg.registry import TRANSFORMS
from mmzeg.utils.image_decoding import exif_orientation

# Compression changes the values of neighbouring pixels. JPEG 2000 may be lossless, but does not say so.
LOSSY_FORMATS = ('JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF', 'HEIF')
# Pillow's modes of one value per pixel: grey, palette, and grey of 16 bits, whose mode depends on Pillow's version.
LABEL_MODES = ('L', 'P', '1', 'I', 'I;16', 'I;16B')


@TRANSFORMS.register_module()
class LoadLabels(LoadAnnotations):
    """Load a label map: replaces ``LoadAnnotations``, which truncates values to 8 bits and keeps unknown values.

    Adds ``gt_seg_map`` (H, W), uint8, or uint16 where the ignored value or a class is above 255.

    Raises:
        ValueError: Truncated or not an image, several channels, a lossy format, another size than its image, 8 bits
            where the ignored value needs 16, or a value that is no class; names the file.
    """

    def _load_seg_map(self, results: dict) -> None:
        # For an image without labels mmseg's inferencer leaves out its own transform, by name, but not this one.
        if results.get('seg_map_path') is None:
            return

        # Read the file and compare its size with the image's.
        path = results['seg_map_path']
        ignore_index = results.get('ignore_index', 255)
        labels = read_label_map(path, fileio.get(path, backend_args=self.backend_args), ignore_index)
        height, width = results.get('ori_shape', labels.shape)[:2]
        if labels.shape != (height, width):
            remedy = size_remedy(labels.shape, (height, width), results['img_path'], self.backend_args)
            raise ValueError(
                f'{path} is {labels.shape[1]} x {labels.shape[0]} pixels but its image {results["img_path"]} is '
                f'{width} x {height}: {remedy}'
            )

        # Map the values of the file to class indices.
        table = label_lookup_table(results.get('label_map'), results.get('reduce_zero_label', False), ignore_index)
        if table is not None:
            num_missing = max(0, int(labels.max()) + 1 - len(table))
            table = np.append(table, np.full(num_missing, -1))
            is_unknown = look_up(labels, table < 0)
            if is_unknown.any():
                raise ValueError(
                    f'{path}: value {labels[is_unknown][0]} is no class of the dataset and not ignored: correct '
                    'the label map or the list of classes'
                )
            # No value that the label map holds is below 0.
            labels = look_up(labels, table.clip(min=0))

        results['gt_seg_map'] = labels.astype(np.uint8 if max(labels.max(), ignore_index) < 256 else np.uint16)
        results['seg_fields'].append('gt_seg_map')


def look_up(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the entries of a table (V,) for all values of a label map (H, W).

    Args:
        labels (ndarray): Values in 0..V-1.
        table (ndarray): bool, or integers from 0 on.

    Returns:
        ndarray: (H, W), in the smallest type of integers that holds the table.
    """
    small_table = table if table.dtype == bool else table.astype(np.min_scalar_type(table.max()))
    if labels.itemsize > 1 or small_table.itemsize > 1:
        return small_table.take(labels)
    # OpenCV looks bytes up faster.
    bytes_table = np.zeros(256, np.uint8)
    bytes_table[: len(table)] = small_table[:256]
    return cv2.LUT(labels, bytes_table).view(small_table.dtype)


def read_label_map(path: str, content: bytes, ignore_index: int) -> np.ndarray:
    """Decode a label map: the values (H, W) in its file.

    Args:
        path (str): The file's name, for error messages.
        content (bytes): The file's content.
        ignore_index (int): Value of pixels without a class.

    Returns:
        ndarray: uint8 for a file of up to 8 bits, else int64.

    Raises:
        ValueError: Truncated or not an image, several channels, a lossy format, or 8 bits where ``ignore_index`` needs
            16; names the file.
    """
    if content.startswith(b'\x93NUMPY'):
        raise ValueError(
            f'{path}: a NumPy file: write it as a PNG, as by PIL.Image.fromarray(labels.astype("uint16")).save(...)'
        )
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            mode = image.mode
            is_lossy = image.format in LOSSY_FORMATS or 'jpeg' in str(image.info.get('compression'))
            labels = np.asarray(image)
    except UnidentifiedImageError as error:
        raise ValueError(f'{path}: truncated or not an image; make or download it again') from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path}: truncated or not an image ({error}); make or download it again') from error
    if is_lossy:
        raise ValueError(
            f'{path}: a lossy format, whose compression changes label values: make the label map again as a PNG'
        )
    if mode not in LABEL_MODES:
        raise ValueError(
            f'{path}: a label map has one value per pixel, but the mode of this file is {mode}: write class indices as '
            'a grey or palette PNG'
        )
    if labels.itemsize == 1 and ignore_index > 255:
        # Its 255 may be a class or no class, and its other values may be truncated from larger ones.
        raise ValueError(
            f'{path}: a label map of 8 bits in a dataset of 16 bits (ignored value {ignore_index}): make it again by '
            "the dataset's converter"
        )
    return labels.astype(np.uint8 if labels.itemsize == 1 else np.int64)


def size_remedy(
    label_shape: tuple[int, int], image_shape: tuple[int, int], img_path: str, backend_args: dict | None = None
) -> str:
    """Return what to do about a label map of another height and width than its image, whose file is given."""
    try:
        with Image.open(io.BytesIO(fileio.get(img_path, backend_args=backend_args))) as image:
            is_turned = exif_orientation(image) >= 5
    except (OSError, SyntaxError, ValueError):
        is_turned = False
    if is_turned and label_shape == image_shape[::-1]:
        return (
            'the label map has the size of the stored pixels, which the EXIF orientation of the image turns; turn the '
            'label map likewise, or remove the orientation from the EXIF data'
        )
    return 'give both the same size'


def label_lookup_table(
    label_map: dict[int, int] | None, reduce_zero_label: bool, ignore_index: int
) -> np.ndarray | None:
    """Return the table (V,) of the class index for every value in a file, -1 for unknown values.

    Args:
        label_map (dict[int, int], optional): mmseg's: old value -> new value, after ``reduce_zero_label``.
        reduce_zero_label (bool): Whether 0 is ignored and every other value is one too high.
        ignore_index (int): Value of pixels without a class.

    Returns:
        ndarray | None: int64; None where all values stay as they are.
    """
    if label_map is None and not reduce_zero_label:
        return None
    if label_map is None:
        label_map = {value: value for value in range(ignore_index)}
    # mmseg first subtracts 1, then maps. It maps 0 to its fixed 255, which here is ``ignore_index``.
    shift = int(reduce_zero_label)
    table = np.full(max(ignore_index, *label_map) + 1 + shift, -1)
    for old, new in label_map.items():
        table[old + shift] = new
    table[ignore_index] = ignore_index
    if reduce_zero_label:
        table[0] = ignore_index
    return table
