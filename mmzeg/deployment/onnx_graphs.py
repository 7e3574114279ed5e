"""Trace the networks of a ZegFormer into ONNX graphs, and compare the graphs with PyTorch at other sizes."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmzeg.clip.fast_encoders import encode_image
from mmzeg.deployment.dynamic_shapes import OPSET, dynamic_shapes
from mmzeg.models import ZegFormer

# Mean difference of logits and embeddings from PyTorch's. Not the greatest: with masked attention, rounding may decide
# whether a query attends to a position.
MAX_MEAN_DIFFERENCE = 1e-3


class SegmentPredictor(nn.Module):
    """Backbone and head with text embeddings as an input; predicts by the last decoder layer only.

    Args:
        model (ZegFormer): The model.
    """

    def __init__(self, model: ZegFormer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Predict class and mask logits of an image.

        Args:
            image (Tensor): (1, 3, H, W) network input.
            text (Tensor): (C, d) unit text embeddings.

        Returns:
            tuple[Tensor, Tensor]: Class logits (1, Q, C + 1), "no object" last, and mask logits (1, Q, h, w).
        """
        features = self.model.extract_feat(image)
        class_logits, mask_logits = self.model.decode_head(features, text, last_layer_only=True)
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
        """Encode crops (N, 3, h, w) to embeddings (N, d), not normalized."""
        return encode_image(self.network, crops)


def write_graph(
    module: nn.Module, inputs: Sequence[Tensor], path: Path, axes: dict[str, dict[int, str]], outputs: list[str]
) -> None:
    """Trace a module into a file.

    Args:
        module (nn.Module): The module; it is set to eval mode.
        inputs (Sequence[Tensor]): One tensor for every name in ``axes``.
        path (Path): The file.
        axes (dict): For every input the names of its dynamic axes.
        outputs (list[str]): Names of the outputs.

    Raises:
        ValueError: torch.onnx cannot export the module.
    """
    with dynamic_shapes(), warnings.catch_warnings():
        # The tracer warns of every size that could become a constant; check_graph finds those that did.
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
            raise ValueError(f'torch.onnx cannot export this model: {str(error).splitlines()[0]}') from error


@torch.no_grad()
def check_graph(path: Path, module: nn.Module, cases: Sequence[Sequence[Tensor]]) -> float:
    """Compare a graph with its module.

    Args:
        path (Path): The graph's file.
        module (nn.Module): What it was traced from.
        cases (Sequence[Sequence[Tensor]]): Inputs of other sizes than the traced ones.

    Returns:
        float: The greatest difference.

    Raises:
        ValueError: The graph fails on an input, or differs on average by more than ``MAX_MEAN_DIFFERENCE``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    names = [entry.name for entry in session.get_inputs()]
    greatest = 0.0
    for inputs in cases:
        # Run both
        expected = module(*inputs)
        expected = (expected,) if isinstance(expected, Tensor) else expected
        shapes = ' and '.join(' x '.join(map(str, tensor.shape)) for tensor in inputs)
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        try:
            outputs = session.run(None, feeds)
        except Exception as error:  # the only common base class of onnxruntime's errors
            raise ValueError(
                f'the graph {path.name} fails on inputs {shapes}: a component of the model keeps the traced size: '
                f'{str(error).splitlines()[0]}'
            ) from error
        # Compare shapes and values
        for output, target in zip(outputs, expected, strict=True):
            if output.shape != tuple(target.shape):
                raise ValueError(
                    f'the graph {path.name} returns {output.shape} for {tuple(target.shape)} on inputs {shapes}: a '
                    'component of the model keeps the traced size'
                )
            difference = np.abs(output - target.numpy())
            # NaN fails this comparison too.
            if not difference.mean() <= MAX_MEAN_DIFFERENCE:
                raise ValueError(
                    f'the graph {path.name} differs from PyTorch by {difference.mean():.1e} on average on inputs '
                    f'{shapes}: a component of the model keeps the traced size'
                )
            greatest = max(greatest, float(difference.max()))
    return greatest
