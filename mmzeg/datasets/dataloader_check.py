"""Check what the pipelines of a dataloader do to labels, and whether the images of a batch have one size."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from mmengine.dataset import DefaultSampler
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmzeg.datasets.pipeline_check import check_pipeline
from mmzeg.datasets.position_grid import same_random_state
from mmzeg.utils.image_decoding import upright_size

# Images whose file headers are read.
MAX_IMAGES = 2000


def check_dataloader(dataloader: DataLoader, field: str, is_training: bool, needs_labels: bool) -> None:
    """Check a dataloader before its first batch: the pipeline of every dataset, on its first sample, and batch sizes.

    Args:
        dataloader (DataLoader): A dataloader of MMEngine's runner.
        field (str): Its field in the config, for error messages.
        is_training (bool): Whether it is for training.
        needs_labels (bool): Whether samples without labels are an error.

    Raises:
        ValueError: As ``check_pipeline``; or two images of a validation or test batch have different sizes.
    """
    for dataset, name in _single_datasets(dataloader.dataset, f'{field}.dataset'):
        if hasattr(dataset, 'pipeline') and hasattr(dataset, 'get_data_info') and len(dataset):
            num_classes = len(dataset.metainfo.get('classes') or ())
            sample = dataset.get_data_info(0)
            check_pipeline(dataset.pipeline, sample, num_classes, f'{name}.pipeline', is_training, needs_labels)
    if not is_training:
        _check_file_sizes(dataloader, field)


def check_batch(batch: dict, field: str) -> None:
    """Check that the images of a validation or test batch have one size, as mmseg stacks them without padding.

    Args:
        batch (dict): What mmseg's dataloaders yield: ``inputs`` and ``data_samples``, lists of the images (3, H, W) and
            their samples; of test-time augmentation, lists of such lists. Other batches are left alone.
        field (str): The dataloader's field in the config.

    Raises:
        ValueError: Two images have different sizes; names both files.
    """
    if not isinstance(batch, dict):
        return
    inputs, samples = batch.get('inputs'), batch.get('data_samples')
    if not isinstance(inputs, Sequence) or not isinstance(samples, Sequence) or not samples:
        return
    if isinstance(samples[0], Sequence):
        inputs, samples = inputs[0], samples[0]
    if len(inputs) == len(samples):
        _check_sizes(inputs, [str(sample.metainfo.get('img_path')) for sample in samples], field)


def _single_datasets(dataset: Dataset, name: str) -> Iterator[tuple[Dataset, str]]:
    """Yield the datasets that a dataset joins or wraps, else the dataset itself, each with its field in the config."""
    if hasattr(dataset, 'datasets'):
        for index, child in enumerate(dataset.datasets):
            yield from _single_datasets(child, f'{name}.datasets.{index}')
    elif hasattr(dataset, 'dataset'):
        yield from _single_datasets(dataset.dataset, f'{name}.dataset')
    else:
        yield dataset, name


def _check_file_sizes(dataloader: DataLoader, field: str) -> None:
    """Check batches by the sizes in the headers of the first 2,000 files: one image of each size is loaded."""
    batch_size = dataloader.batch_size or 1
    # Iterating another sampler may change it.
    if batch_size == 1 or not isinstance(dataloader.sampler, DefaultSampler):
        return
    dataset = dataloader.dataset
    inputs_of_size: dict[tuple[int, int], Tensor | Sequence[Tensor]] = {}
    for batch in islice(dataloader.batch_sampler, MAX_IMAGES // batch_size):
        paths = [str(dataset.get_data_info(index).get('img_path')) for index in batch]
        sizes = [_file_size(path) for path in paths]
        if None in sizes or len(set(sizes)) == 1:
            continue
        for index, size in zip(batch, sizes, strict=True):
            if size not in inputs_of_size:
                with same_random_state():
                    inputs_of_size[size] = dataset[index]['inputs']
        _check_sizes([inputs_of_size[size] for size in sizes], paths, field)


def _file_size(path: str) -> tuple[int, int] | None:
    """Return the upright width and height in the header of an image file; None where there is no local image."""
    if not Path(path).is_file():
        return None
    try:
        with Image.open(path) as image:
            return upright_size(image)
    except (OSError, SyntaxError, ValueError):
        return None


def _check_sizes(inputs: Sequence[Tensor | Sequence[Tensor]], paths: Sequence[str], field: str) -> None:
    sizes = [tuple((image if isinstance(image, Tensor) else image[0]).shape[-2:]) for image in inputs]
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            first, other = (f'{width} x {height}' for height, width in (sizes[0], size))
            raise ValueError(
                f'{field}.batch_size={len(paths)}: after the pipeline {paths[0]} has {first} pixels and {path} '
                f'{other}, but the images of a validation or test batch must have one size: set {field}.batch_size=1'
            )
