"""Write a ZegFormer as ONNX graphs, with what runs them without PyTorch.

python tools/deployment/export_onnx.py CONFIG WEIGHTS --out FOLDER
"""

import argparse
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from dynamic_shapes import OPSET, dynamic_shapes
from mmengine.config import DictAction
from mmseg.models import SegDataPreProcessor
from torch import Tensor, nn

import mmzeg
from mmzeg.apis import ZeroShotInferencer
from mmzeg.apis.inferencer import LOADERS
from mmzeg.deployment.onnx_runner import CLIP, FORMAT, NAMES, SEGMENTS, SETTINGS, padded_size
from mmzeg.clip.fast_encoders import encode_image
from mmzeg.models import ScoreFusion, ZegFormer
from mmzeg.models.scorers import CLIPCropScorer
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors
from mmzeg.vocabulary import Vocabulary

# Mean difference of logits and embeddings from PyTorch's. Not the greatest: where queries look at the cells under their
# masks alone, rounding may decide about a cell.
ALLOWED = 1e-3
RUNNER = ('onnx_runner.py', 'onnx_arrays.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', help='checkpoint file')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def load(config: str, weights: str | None, cfg_options: dict | None) -> ZeroShotInferencer:
    """The model on the CPU, with its config."""
    return ZeroShotInferencer(read_config(config, cfg_options), weights, device='cpu')


def check_model(model: ZegFormer) -> None:
    """ValueError where a part is not one that the runner counts as PyTorch does."""
    for part, wanted in (
        (model, ZegFormer),
        (model.data_preprocessor, SegDataPreProcessor),
        (model.fusion, ScoreFusion),
        (model.scorer, CLIPCropScorer),
    ):
        if part is not None and type(part) is not wanted:
            raise ValueError(f'{type(part).__name__} has no ONNX form: {wanted.__name__} has')
    if model.scorer is not None and model.scorer.pruning is not None:
        raise ValueError(
            f'{type(model.scorer.pruning).__name__} has no ONNX form: set model.scorer.pruning=None, which asks CLIP '
            'about every segment'
        )
    if model.scorer is not None and model.scorer.clip.precision not in ('auto', 'fp32'):
        raise ValueError(f"CLIP precision {model.scorer.clip.precision!r} has no ONNX form: set it to 'fp32'")


def resize_steps(pipeline: Sequence[dict]) -> list[dict]:
    """What a test pipeline does to a picture's size; ValueError where it does what the runner does not."""
    found = []
    for step in pipeline:
        kind = step['type']
        if kind in (*LOADERS, 'PackSegInputs'):
            continue
        if step.get('interpolation', 'bilinear') != 'bilinear':
            raise ValueError(f'{kind} with interpolation {step["interpolation"]!r} has no ONNX form: bilinear has')
        if kind == 'mmzeg.ResizeShortestEdge':
            scale = step['scale'] if isinstance(step['scale'], int) else min(step['scale'])
            found.append(dict(kind='shortest', scale=scale, max_size=step['max_size']))
        elif kind == 'Resize' and step.get('scale') is not None:
            scale = [step['scale']] * 2 if isinstance(step['scale'], int) else list(step['scale'])
            found.append(dict(kind='inside' if step.get('keep_ratio') else 'fixed', scale=scale))
        else:
            raise ValueError(
                f'{kind} of the test pipeline has no ONNX form: it may load, resize by mmzeg.ResizeShortestEdge or by '
                'Resize to a scale, and pack'
            )
        found[-1]['backend'] = step.get('backend', 'cv2' if kind == 'Resize' else 'pillow')
    return found


def settings_of(inferencer: ZeroShotInferencer) -> dict:
    """All that the runner is told."""
    model = inferencer.model
    preprocessor, scorer, fusion = model.data_preprocessor, model.scorer, model.fusion
    normalized = preprocessor._enable_normalize
    test_cfg = preprocessor.test_cfg or {}
    size = test_cfg.get('size')
    clip = scorer and dict(
        size=scorer.clip.image_size,
        mean=scorer.clip.image_mean,
        std=scorer.clip.image_std,
        scale=scorer.clip.logit_scale,
        bias=scorer.clip.logit_bias or 0.0,
        styles=scorer.styles,
        grow=scorer.grow,
        merge_iou_thr=scorer.merge_iou_thr,
    )
    return dict(
        format=FORMAT,
        mmzeg=mmzeg.__version__,
        classes=model.vocabulary.names,
        trained=inferencer.trained.names,
        resize=resize_steps(inferencer.cfg.test_dataloader.dataset.pipeline),
        # mmseg's name, and OneDL's.
        rgb=bool(getattr(preprocessor, 'channel_conversion', getattr(preprocessor, '_channel_conversion', None))),
        mean=preprocessor.mean.flatten().tolist() if normalized else None,
        std=preprocessor.std.flatten().tolist() if normalized else None,
        pad=dict(size=size and list(size), divisor=test_cfg.get('size_divisor'), value=preprocessor.pad_val),
        clip=clip,
        fusion=dict(mode=fusion.mode, lam=fusion.lam, gamma=fusion.gamma),
    )


def name_embeddings(model: ZegFormer, names: Sequence[str]) -> dict[str, np.ndarray]:
    """``names`` (C,), ``segments`` (C, d), and ``clip`` (C, e) where there is a scorer: unit text embeddings."""
    own = model.vocabulary
    model.set_vocabulary(Vocabulary(names, prompts=own.prompts))
    try:
        text = model.decode_head.classifier.text_embeddings(training=False)
    finally:
        model.set_vocabulary(own)
    found = dict(names=np.array(names), segments=text.numpy())
    if model.scorer is not None:
        found['clip'] = model.scorer.clip.text_embeddings(names, model.scorer.prompts).numpy()
    return found


def write_names(path: Path, names: dict[str, np.ndarray]) -> None:
    """Write what ``name_embeddings`` gave as .npz."""

    def write(partial: Path) -> None:
        with partial.open('wb') as file:  # given a name, NumPy would add a suffix to it
            np.savez(file, **names)

    atomic_write(path, write)


class Segments(nn.Module):
    """Backbone and head as a graph has them: the last layer's segments.

    Args:
        model (ZegFormer): The model.
    """

    def __init__(self, model: ZegFormer) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (1, Q, C + 1) and mask logits (1, Q, h, w) of an input (1, 3, H, W) and (C, d) embeddings."""
        class_logits, mask_logits = self.model.decode_head(self.model.extract_feat(picture), text, last_layer_only=True)
        return class_logits[-1], mask_logits[-1]


class ImageEncoder(nn.Module):
    """CLIP's image encoder.

    Args:
        network (nn.Module): open_clip's model.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        """(N, d) embeddings, not normalised, of (N, 3, h, w)."""
        return encode_image(self.network, crops)


def write_graph(
    module: nn.Module, inputs: Sequence[Tensor], path: Path, axes: dict[str, dict[int, str]], outputs: list[str]
) -> None:
    """Trace a module into a file; ValueError where it has no graph.

    Args:
        module (nn.Module): In eval mode.
        inputs (Sequence[Tensor]): One for every name in ``axes``.
        path (Path): The file.
        axes (dict): For every input the names of its dynamic axes.
        outputs (list[str]): Names.
    """
    with dynamic_shapes(), warnings.catch_warnings():
        # That sizes become constants; whether one did is checked afterwards.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.utils.export(
                module.eval(),
                tuple(inputs),
                str(path),
                input_names=list(axes),
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
            )
        except RuntimeError as error:
            raise ValueError(f'torch.onnx has no graph of this model: {str(error).splitlines()[0]}') from error


@torch.no_grad()
def check_graph(path: Path, module: nn.Module, cases: Sequence[Sequence[Tensor]]) -> float:
    """Greatest difference between a graph and its module, on inputs of other sizes than the traced one.

    Raises:
        ValueError: The graph does not take them, or differs on average by more than ``ALLOWED``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    greatest = 0.0
    for inputs in cases:
        wanted = module(*inputs)
        shapes = ' and '.join(' x '.join(map(str, tensor.shape)) for tensor in inputs)
        names = [entry.name for entry in session.get_inputs()]
        try:
            found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        except Exception as error:  # onnxruntime's errors have no class in common but this
            raise ValueError(
                f'the graph {path.name} fails on inputs {shapes}, as a part of the model keeps the traced size: '
                f'{str(error).splitlines()[0]}'
            ) from error
        for ours, theirs in zip(found, (wanted,) if isinstance(wanted, Tensor) else wanted, strict=True):
            if ours.shape != tuple(theirs.shape):
                raise ValueError(f'the graph {path.name} gives {ours.shape} for {tuple(theirs.shape)} on {shapes}')
            difference = np.abs(ours - theirs.numpy())
            if not difference.mean() <= ALLOWED:
                raise ValueError(
                    f'the graph {path.name} differs from PyTorch by {difference.mean():.1e} on average on inputs '
                    f'{shapes}: a part of the model has no dynamic form'
                )
            greatest = max(greatest, float(difference.max()))
    return greatest


def export(inferencer: ZeroShotInferencer, folder: Path) -> dict[str, float]:
    """Fill a folder; for every graph its greatest difference from PyTorch. Errors as in the functions above."""
    model = inferencer.model
    check_model(model)
    settings = settings_of(inferencer)
    names = name_embeddings(model, model.vocabulary.names)
    generator = torch.Generator().manual_seed(0)
    differences = {}

    def picture(height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
        shape = padded_size((height, width), settings['pad'])
        text = torch.randn(count, names['segments'].shape[1], generator=generator)
        return torch.randn(1, 3, *shape, generator=generator), nn.functional.normalize(text, dim=-1)

    def graph(name: str, module: nn.Module, traced: Sequence[Tensor], cases: Sequence, *form: object) -> None:
        write_graph(module, traced, folder / name, *form)
        differences[name] = check_graph(folder / name, module, cases)

    with torch.no_grad():
        axes = dict(picture={2: 'height', 3: 'width'}, text={0: 'classes'})
        cases = [picture(130, 75, 3), picture(97, 200, 1)]
        graph(SEGMENTS, Segments(model), picture(64, 96, 5), cases, axes, ['class_logits', 'mask_logits'])
    if settings['clip']:
        size = settings['clip']['size']
        with model.scorer.clip.on(torch.device('cpu')) as network, torch.enable_grad():
            # An input with a gradient: without one, attention is a fused operator that ONNX has not.
            traced = torch.randn(2, 3, *size, generator=generator).requires_grad_()
            cases = [[torch.randn(count, 3, *size, generator=generator)] for count in (1, 3)]
            graph(CLIP, ImageEncoder(network), [traced], cases, dict(crops={0: 'crops'}), ['embeddings'])
    write_names(folder / NAMES, names)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding='utf-8')
    package = folder / 'mmzeg_onnx'
    package.mkdir()
    for name in RUNNER:
        shutil.copy(Path(mmzeg.__file__).with_name('apis') / name, package)
    (package / '__init__.py').write_text("from .onnx_runner import OnnxRunner\n\n__all__ = ['OnnxRunner']\n")
    return differences


def write_folder(folder: Path, fill: Callable[[Path], object]) -> object:
    """Have ``fill`` fill a folder that is whole or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as temporary:
        partial = Path(temporary, folder.name)
        partial.mkdir()
        found = fill(partial)
        os.replace(partial, folder)
    return found


@one_line_errors
def main() -> None:
    args = parse_args()
    missing = [name for name in ('onnx', 'onnxruntime') if find_spec(name) is None]
    if missing:
        raise ValueError(f'{" and ".join(missing)} needed and not installed: pip install {" ".join(missing)}')
    if args.out.exists():
        raise FileExistsError(f'{args.out}: is there already; name a new folder')
    inferencer = load(args.config, args.weights, args.cfg_options)
    for name, difference in write_folder(args.out, lambda folder: export(inferencer, folder)).items():
        size = (args.out / name).stat().st_size / 2**20
        print(f'{args.out / name}: {size:.0f} MiB, differs from PyTorch by {difference:.1e} at most')
    print(f'{args.out}: runs with NumPy, Pillow and onnxruntime: from mmzeg_onnx import OnnxRunner')


if __name__ == '__main__':
    main()
