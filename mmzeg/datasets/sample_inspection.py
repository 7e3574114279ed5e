"""List the samples of a dataset, and read single samples to check them."""

import hashlib
import io
from pathlib import Path

import numpy as np
from mmengine.config import ConfigDict
from PIL import Image

from mmzeg.datasets.folder_dataset import FolderDataset, no_image_message, unmatched_message
from mmzeg.datasets.transforms.load_labels import label_lookup_table, read_label_map, size_remedy
from mmzeg.registry import DATASETS
from mmzeg.utils.image_decoding import exif_orientation, is_plain_image, upright_size

# What may be wrong with an image, said once for all such images.
DOUBTS = dict(
    converted=(
        'not 8 bits of RGB or grey without transparency, the first of {number} such images: loaded as 16 bits divided '
        'by 257, on white, first frame'
    ),
    dark=(
        'grey of 16 bits without a value above 4095, the first of {number} such images: 12 bits stored in 16 become '
        'nearly black, as values are divided by 257: multiply them by 16'
    ),
    turned=(
        'its EXIF orientation mirrors or turns it and keeps its size, the first of {number} such images: look whether '
        'the label map fits the upright image or the stored pixels, which sizes do not tell'
    ),
)


def list_samples(config: ConfigDict) -> tuple[list[dict], list[str], list[str], list[str]]:
    """List the samples of a dataset as its config selects them, its classes, and what is wrong with the list.

    Args:
        config (ConfigDict): Config of the dataset.

    Returns:
        tuple: Samples for ``inspect_sample``, class names, and problems and warnings as lines of text.

    Raises:
        FileNotFoundError: A folder does not exist, or the dataset is not kept in folders.
    """
    dataset = DATASETS.build(dict(config, pipeline=[], lazy_init=True))
    for field in ('img_path', 'seg_map_path'):
        folder = dataset.data_prefix.get(field)
        if not folder or not Path(folder).is_dir():
            raise FileNotFoundError(f'{config.type}: {folder!r} is no folder ({field} of data_prefix): nothing to read')

    # List the images. FolderDataset stops at the first image without a label map; here all are listed.
    problems, warnings = [], []
    if isinstance(dataset, FolderDataset):
        samples, unmatched = dataset.list_samples()
        if not samples:
            problems.append(no_image_message(dataset, unmatched))
        elif unmatched:
            warnings.append(unmatched_message(dataset, unmatched))
    else:
        samples = dataset.load_data_list()
        if not samples:
            problems.append(f'{dataset.data_prefix["img_path"]}: no image ends with {dataset.img_suffix!r}')
    for sample in samples:
        sample['ignore_index'] = dataset.ignore_index
        sample['num_classes'] = len(dataset.metainfo['classes'])

    # List label maps without an image, unless a list selects some of the images.
    if not dataset.ann_file:
        expected = {Path(sample['seg_map_path']).resolve() for sample in samples}
        label_maps = Path(dataset.data_prefix['seg_map_path']).rglob(f'*{dataset.seg_map_suffix}')
        # macOS writes a hidden file ._NAME, which is no label map, for every NAME on some disks.
        unpaired = [
            path for path in sorted(label_maps) if path.resolve() not in expected and not path.name.startswith('.')
        ]
        problems.extend(f'{path}: a label map without an image' for path in unpaired)
    return samples, list(dataset.metainfo['classes']), problems, warnings


def inspect_sample(sample: dict) -> dict:
    """Read an image and its label map, if it has one, and check them.

    Args:
        sample (dict): A sample of ``list_samples``; ``seg_map_path`` is None for an image without labels.

    Returns:
        dict: ``path`` of the image; ``digest`` of its file (None: not readable); ``doubts``, keys of ``DOUBTS``;
        ``counts``, pixels of every class index; ``values``, the values in the label map's file; ``problems``, lines of
        text.
    """
    digest, size, doubts, problems = _inspect_image(sample)
    counts, values = {}, []
    if sample['seg_map_path'] is not None:
        try:
            counts, values, label_problems = _inspect_label_map(sample, size)
            problems.extend(label_problems)
        except FileNotFoundError:
            problems.append(f'{sample["img_path"]}: no label map; {sample["seg_map_path"]} does not exist')
        except ValueError as error:
            problems.append(str(error))
    return dict(
        path=str(sample['img_path']),
        digest=digest,
        doubts=doubts,
        counts=counts,
        values=values,
        problems=problems,
    )


def _inspect_image(sample: dict) -> tuple[bytes | None, tuple[int, int] | None, list[str], list[str]]:
    """Return an image's digest, its width and height as training loads it, its doubts and its problems."""
    path = Path(sample['img_path'])
    digest, size, doubts = None, None, []
    try:
        content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if not is_plain_image(content):
            doubts.append('converted')
        with Image.open(io.BytesIO(content)) as image:
            # Training applies the camera's orientation.
            size = upright_size(image)
            is_turned = exif_orientation(image) > 1
            is_same_size = size == image.size
            if sample['seg_map_path'] is not None:
                # Read a JPEG to its end, but do not decode it at full size.
                image.draft('L', (1, 1))
                image.load()
                if is_turned and is_same_size:
                    doubts.append('turned')
                if image.mode.startswith('I') and image.getextrema()[1] < 4096:
                    doubts.append('dark')
    except FileNotFoundError:
        return digest, size, [], [f'{path}: does not exist']
    except (OSError, SyntaxError, ValueError) as error:
        return digest, size, [], [f'{path}: truncated or not an image ({error})']
    return digest, size, doubts, []


def _inspect_label_map(sample: dict, image_size: tuple[int, int] | None) -> tuple[dict[int, int], list[int], list[str]]:
    """Return the pixels of every class index in a label map, the values in its file, and its problems."""
    path = sample['seg_map_path']
    ignore_index, num_classes = sample['ignore_index'], sample['num_classes']
    labels = read_label_map(path, Path(path).read_bytes(), ignore_index)
    problems = []
    if image_size is not None and labels.shape[::-1] != image_size:
        width, height = image_size
        remedy = size_remedy(labels.shape, (height, width), sample['img_path'])
        problems.append(
            f'{path}: {labels.shape[1]} x {labels.shape[0]} pixels, but its image has {width} x {height}: {remedy}'
        )

    # Count the pixels of every class; values that become no class are unknown.
    table = label_lookup_table(sample['label_map'], sample['reduce_zero_label'], ignore_index)
    pixels = np.bincount(labels.ravel())
    values = np.flatnonzero(pixels).tolist()
    counts: dict[int, int] = {}
    unknown = []
    for value in values:
        label = value
        if table is not None:
            label = int(table[value]) if value < len(table) else -1
        if label != ignore_index and not 0 <= label < num_classes:
            unknown.append(value)
        else:
            counts[label] = counts.get(label, 0) + int(pixels[value])
    if unknown:
        others = f' (and {len(unknown) - 1} others)' if len(unknown) > 1 else ''
        problems.append(f'{path}: value {unknown[0]}{others} is none of the {num_classes} classes and not ignored')
    counts.pop(ignore_index, None)
    return counts, values, problems
