"""A golden case of the released code: its settings and tensors, and our model with its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules, stack_batch
from torch import Tensor, nn

from mmzeg.parity.comparison import Comparison
from mmzeg.parity.model_configs import CLIP_WEIGHTS
from mmzeg.parity.options import CheckOptions
from mmzeg.registry import MODELS
from mmzeg.utils.released_names import convert_released, released_tau
from mmzeg.utils.weight_files import read_state

TENSORS = 'tensors.safetensors'
# Value of pixels that no training class covers.
IGNORE_INDEX = 255


@dataclass(frozen=True)
class ReleasedCase:
    """A case that is ready to be checked.

    Args:
        settings (dict): Content of ``case.json``.
        model (nn.Module): Our model with the case's weights.
        inputs (Tensor): (B, 3, H, W) normalized and padded images.
        samples (list[SegDataSample]): Labels as indices of the training classes, and meta information.
        comparison (Comparison): Of all golden tensors but images and labels; no row yet.
    """

    settings: dict
    model: nn.Module
    inputs: Tensor
    samples: list[SegDataSample]
    comparison: Comparison


def load_released_case(
    folder: Path,
    settings: dict,
    weights: str,
    build_config: Callable[[dict, Path, float], dict],
    options: CheckOptions,
) -> ReleasedCase:
    """Read a case and build its model.

    Args:
        folder (Path): The case.
        settings (dict): Content of ``case.json``.
        weights (str): File name of the model's weights, under the released code's parameter names.
        build_config (Callable): Returns the model's config from settings, folder and temperature.
        options (CheckOptions): Device of model, images and samples.

    Raises:
        FileNotFoundError: A file is missing; names it.
        ValueError: A file is truncated; names it.
    """
    require_files(folder / TENSORS, folder / weights, folder / CLIP_WEIGHTS)
    golden = read_state(folder / TENSORS)
    released = read_state(folder / weights)
    # Build the model from the case's sizes, and load its weights under our names.
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    model = MODELS.build(ConfigDict(build_config(settings, folder, released_tau(released))))
    model.load_state_dict(convert_released(released), strict=True)
    # Normalize and pad the images as the data preprocessor does.
    images, samples = _read_samples(settings, golden)
    preprocessor = model.data_preprocessor
    images = [(image.float() - preprocessor.mean) / preprocessor.std for image in images]
    inputs, samples = stack_batch(images, samples, size_divisor=32)
    compared = {name: tensor for name, tensor in golden.items() if not name.startswith(('image_', 'label_'))}
    # Move everything that is computed with.
    device = options.torch_device
    samples = [sample.to(device) for sample in samples]
    return ReleasedCase(settings, model.to(device), inputs.to(device), samples, Comparison(compared))


def require_files(*paths: Path) -> None:
    """Raise FileNotFoundError, naming the first file that does not exist."""
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f'{path}: no such file; a case is a folder of case.json, tensors.safetensors, and weights: of a '
                'successor clip.safetensors, else clip_openai_format.safetensors, and zegformer_official.safetensors '
                'or per_pixel_official.safetensors'
            )


def _read_samples(settings: dict, golden: dict[str, Tensor]) -> tuple[list[Tensor], list[SegDataSample]]:
    """Return images (3, h, w) RGB, and samples whose labels are indices of the training classes, all else ignored."""
    images = []
    samples = []
    for index, out_size in enumerate(settings.get('out_sizes') or [settings['out_size']]):
        image = golden[f'image_{index}']
        values = golden[f'label_{index}'].long()
        labels = torch.full_like(values, IGNORE_INDEX)
        for class_index, name in enumerate(settings['seen_names']):
            labels[values == settings['names'].index(name)] = class_index
        meta = dict(ori_shape=tuple(out_size), img_shape=tuple(image.shape[1:]), img_path=f'image_{index}')
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=labels[None])
        images.append(image)
        samples.append(sample)
    return images, samples
