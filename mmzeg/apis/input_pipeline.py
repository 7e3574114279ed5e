"""The test pipeline of a config, applied to images instead of the files of a dataset."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmseg.datasets.transforms import LoadImageFromNDArray

from mmzeg.datasets.transforms.loaders import is_loader
from mmzeg.utils.run_checks import datasets_of

# Pixels that may reach the network. Published configs resize to at most 1.6 million, which take R101 about 1.2 GB.
MAX_INPUT_PIXELS = 1 << 22


def build_input_pipeline(cfg: Config) -> Compose:
    """Build the test pipeline of a config, with a loader of arrays in place of its loading transforms."""
    dataset, *_ = datasets_of(cfg.test_dataloader.dataset)
    transforms = [transform for transform in _single_transforms(Compose(dataset.pipeline)) if not is_loader(transform)]
    return Compose([LoadImageFromNDArray(), *transforms])


def _single_transforms(pipeline: Compose) -> Iterator[Callable]:
    """Yield the transforms of a pipeline, and those of the pipelines in it."""
    for transform in pipeline:
        if isinstance(transform, Compose):
            yield from _single_transforms(transform)
        else:
            yield transform


def apply_input_pipeline(pipeline: Compose, image: np.ndarray, file: str | None = None) -> dict:
    """Apply the pipeline to an image.

    Args:
        pipeline (Compose): Of ``build_input_pipeline``.
        image (np.ndarray): (H, W, 3) uint8 RGB.
        file (str, optional): The image's file, which becomes ``img_path`` of the meta information.

    Returns:
        dict: ``inputs`` (3, h, w) and ``data_samples``, as mmseg's ``PackSegInputs`` gives them.

    Raises:
        ValueError: The image is too narrow to be resized, or too large for the network; or a transform needs what only
            the files of a dataset have.
    """
    height, width = image.shape[:2]
    try:
        data = pipeline(dict(img=image[..., ::-1]))
    except (cv2.error, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f'an image of {width} x {height} cannot be resized to the size of the test pipeline: crop or pad it'
        ) from error
    except KeyError as error:
        raise ValueError(
            f'test_dataloader.dataset.pipeline: a transform needs {error}, which an image without a dataset does not '
            'have: remove that transform'
        ) from error
    if data['inputs'][0].numel() > MAX_INPUT_PIXELS:
        raise ValueError(
            f'an image of {width} x {height} would reach the network with more than {MAX_INPUT_PIXELS} pixels: make it '
            'smaller, or give the test pipeline of the config a Resize'
        )
    data['data_samples'].set_metainfo(dict(img_path=file))
    return data
