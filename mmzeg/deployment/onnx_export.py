"""Write a ZegFormer as a folder of ONNX graphs, settings and text embeddings, with the runner that needs no PyTorch."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from mmseg.models import SegDataPreProcessor as MMSegSegDataPreProcessor
from torch import Tensor

import mmzeg
from mmzeg.apis import ZeroShotInferencer
from mmzeg.datasets.transforms.loaders import is_loader
from mmzeg.deployment.class_embeddings import class_embeddings, write_class_embeddings
from mmzeg.deployment.onnx_graphs import ImageEncoder, SegmentPredictor, check_graph, write_graph
from mmzeg.deployment.onnx_images import padded_size
from mmzeg.deployment.onnx_runner import CLIP, FORMAT, NAMES, SEGMENTS, SETTINGS
from mmzeg.models import ScoreFusion, SegDataPreProcessor, ZegFormer
from mmzeg.models.channel_order import converts_to_rgb
from mmzeg.models.scorers import CLIPCropScorer

# The package in the exported folder: copies of these files, in the same subfolders
RUNNER_PACKAGE = 'mmzeg_onnx'
RUNNER_FILES = (
    'deployment/__init__.py',
    'deployment/onnx_arrays.py',
    'deployment/onnx_images.py',
    'deployment/onnx_runner.py',
    'utils/__init__.py',
    'utils/image_decoding.py',
)

T = TypeVar('T')


def export(inferencer: ZeroShotInferencer, folder: Path) -> dict[str, float]:
    """Write graphs, settings, text embeddings and the runner into a folder.

    Args:
        inferencer (ZeroShotInferencer): The model on the CPU, with its config.
        folder (Path): An empty folder.

    Returns:
        dict[str, float]: For every graph its greatest difference from PyTorch.

    Raises:
        ValueError: The model or its test pipeline has no ONNX form, or a graph differs from PyTorch.
    """
    model = inferencer.model
    check_exportable(model)
    settings = export_settings(inferencer)
    embeddings = class_embeddings(model, model.vocabulary.names)
    # Write and check the graphs
    generator = torch.Generator().manual_seed(0)
    text_dim = embeddings['segments'].shape[1]
    differences = {SEGMENTS: _export_segments(model, folder / SEGMENTS, settings['pad'], text_dim, generator)}
    if settings['clip']:
        differences[CLIP] = _export_image_encoder(model, folder / CLIP, settings['clip']['size'], generator)
    # Write what the runner reads besides the graphs
    write_class_embeddings(folder / NAMES, embeddings)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding='utf-8')
    copy_runner(folder)
    return differences


def copy_runner(folder: Path) -> None:
    """Write the runner into a folder, as the package ``mmzeg_onnx``."""
    package = folder / RUNNER_PACKAGE
    for name in RUNNER_FILES:
        target = package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(mmzeg.__file__).parent / name, target)
    (package / '__init__.py').write_text("from .deployment import OnnxRunner\n\n__all__ = ['OnnxRunner']\n")


def write_folder(folder: Path, fill: Callable[[Path], T]) -> T:
    """Call ``fill`` with a temporary folder and rename that to ``folder``: it is complete or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as temporary:
        partial = Path(temporary, folder.name)
        partial.mkdir()
        result = fill(partial)
        os.replace(partial, folder)
    return result


def check_exportable(model: ZegFormer) -> None:
    """Raise ValueError where a component is not one whose arithmetic the runner has."""
    # Subclasses may compute anything, so the types must be equal.
    for component, *exportable in (
        (model, ZegFormer),
        (model.data_preprocessor, SegDataPreProcessor, MMSegSegDataPreProcessor),
        (model.fusion, ScoreFusion),
        (model.scorer, CLIPCropScorer),
    ):
        if component is not None and type(component) not in exportable:
            raise ValueError(f'{type(component).__name__} has no ONNX form: use {exportable[0].__name__}')
    if model.scorer is None:
        return
    if model.scorer.pruning is not None:
        raise ValueError(
            f'{type(model.scorer.pruning).__name__} has no ONNX form: set model.scorer.pruning=None, which scores '
            'every segment'
        )
    precision = model.scorer.clip.precision
    if precision not in ('auto', 'fp32'):
        raise ValueError(f"CLIP precision {precision!r} has no ONNX form: set it to 'fp32'")


def resize_steps(pipeline: Sequence[dict]) -> list[dict]:
    """Return the resize steps of a test pipeline in the form of ``onnx_images.resized_size``.

    Raises:
        ValueError: A step of the pipeline does more than load, resize and pack.
    """
    resizes = []
    for step in pipeline:
        kind = step['type']
        if is_loader(step) or kind == 'PackSegInputs':
            continue
        interpolation = step.get('interpolation', 'bilinear')
        if interpolation != 'bilinear':
            raise ValueError(f"{kind} with interpolation {interpolation!r} has no ONNX form: use 'bilinear'")
        if kind == 'mmzeg.ResizeShortestEdge':
            scale = step['scale'] if isinstance(step['scale'], int) else min(step['scale'])
            resize = dict(kind='shortest_edge', scale=scale, max_size=step['max_size'])
            default_backend = 'pillow'
        elif kind == 'Resize' and step.get('scale') is not None:
            scale = [step['scale']] * 2 if isinstance(step['scale'], int) else list(step['scale'])
            resize = dict(kind='keep_ratio' if step.get('keep_ratio') else 'fixed', scale=scale)
            default_backend = 'cv2'
        else:
            raise ValueError(
                f'{kind} of the test pipeline has no ONNX form: the pipeline may load, resize by '
                'mmzeg.ResizeShortestEdge or by Resize to a scale, and pack'
            )
        resize['backend'] = step.get('backend', default_backend)
        resizes.append(resize)
    return resizes


def export_settings(inferencer: ZeroShotInferencer) -> dict:
    """Return the content of ``settings.json``: everything that the runner needs besides graphs and embeddings."""
    model = inferencer.model
    preprocessor = model.data_preprocessor
    fusion = model.fusion
    # Normalization and padding of the network input
    normalizes = preprocessor._enable_normalize
    test_cfg = preprocessor.test_cfg or {}
    size = test_cfg.get('size')
    pad = dict(size=size and list(size), divisor=test_cfg.get('size_divisor'), value=preprocessor.pad_val)
    return dict(
        format=FORMAT,
        mmzeg=mmzeg.__version__,
        classes=model.vocabulary.names,
        trained_classes=model.decode_head.classifier.train_vocabulary.names,
        resize=resize_steps(inferencer.cfg.test_dataloader.dataset.pipeline),
        rgb=converts_to_rgb(preprocessor),
        mean=preprocessor.mean.flatten().tolist() if normalizes else None,
        std=preprocessor.std.flatten().tolist() if normalizes else None,
        pad=pad,
        clip=_scorer_settings(model.scorer),
        fusion={name: getattr(fusion, name) for name in ('mode', 'lam', 'gamma', 'alpha', 'beta')},
    )


def _scorer_settings(scorer: CLIPCropScorer | None) -> dict | None:
    if scorer is None:
        return None
    return dict(
        size=scorer.clip.image_size,
        mean=scorer.clip.image_mean,
        std=scorer.clip.image_std,
        scale=scorer.clip.logit_scale,
        bias=scorer.clip.logit_bias or 0.0,
        crop_modes=scorer.crop_modes,
        mask_dilation=scorer.mask_dilation,
        merge_iou_thr=scorer.merge_iou_thr,
    )


@torch.no_grad()
def _export_segments(model: ZegFormer, path: Path, pad: dict, text_dim: int, generator: torch.Generator) -> float:
    """Write the graph of backbone and head, and return its greatest difference from PyTorch."""

    def random_inputs(height: int, width: int, num_classes: int) -> tuple[Tensor, Tensor]:
        text = torch.randn(num_classes, text_dim, generator=generator)
        image = torch.randn(1, 3, *padded_size((height, width), pad), generator=generator)
        return image, F.normalize(text, dim=-1)

    predictor = SegmentPredictor(model)
    axes = dict(image={2: 'height', 3: 'width'}, text={0: 'classes'})
    write_graph(predictor, random_inputs(64, 96, 5), path, axes, ['class_logits', 'mask_logits'])
    return check_graph(path, predictor, [random_inputs(130, 75, 3), random_inputs(97, 200, 1)])


def _export_image_encoder(model: ZegFormer, path: Path, size: Sequence[int], generator: torch.Generator) -> float:
    """Write the graph of CLIP's image encoder, and return its greatest difference from PyTorch."""
    with model.scorer.clip.on(torch.device('cpu')) as network, torch.enable_grad():
        encoder = ImageEncoder(network)
        # The traced input needs a gradient: without one, attention becomes a fused operator that ONNX does not have.
        crops = torch.randn(2, 3, *size, generator=generator).requires_grad_()
        write_graph(encoder, [crops], path, dict(crops={0: 'crops'}), ['embeddings'])
        cases = [[torch.randn(num_crops, 3, *size, generator=generator)] for num_crops in (1, 3)]
        return check_graph(path, encoder, cases)
