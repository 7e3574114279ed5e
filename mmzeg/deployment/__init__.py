"""ZegFormer as ONNX graphs: export them, and run them without PyTorch."""

from .onnx_runner import OnnxRunner

__all__ = ['OnnxRunner']
