"""Count floating-point operations and record the size of the images that networks get."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

COLOR_CHANNELS = 3


@dataclass
class OperationCount:
    """What one test computes.

    Args:
        flops (int): Floating-point operations of matrix products, convolutions and attention, as torch counts them: a
            multiplication and an addition are two.
        inputs (Counter): (height, width) -> number of images of this size that a convolution over three channels got.
    """

    flops: int = 0
    inputs: Counter = field(default_factory=Counter)

    @property
    def gflop(self) -> float:
        """Operations in units of 10^9."""
        return self.flops / 1e9

    @property
    def inputs_text(self) -> str:
        """The images as text, the largest first: ``1 x 640 x 864, 100 x 224 x 224``."""
        sizes = sorted(self.inputs.items(), reverse=True)
        return ', '.join(f'{number} x {height} x {width}' for (height, width), number in sizes)


@torch.no_grad()
def count_operations(run: Callable[[], object]) -> OperationCount:
    """Call a function once and count what it computes.

    Args:
        run (Callable): Must not enter ``torch.inference_mode``, in which torch counts no linear layer.
    """
    count = OperationCount()

    def record_images(module: nn.Module, args: tuple) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == COLOR_CHANNELS:
            images = args[0]
            count.inputs[tuple(images.shape[-2:])] += len(images)

    counter = FlopCounterMode(display=False, custom_mapping=_unlisted_operations())
    hook = register_module_forward_pre_hook(record_images)
    try:
        with counter:
            run()
    finally:
        hook.remove()
    count.flops = counter.get_total_flops()
    return count


def _unlisted_operations() -> dict:
    """Return how to count the operations that torch's list lacks: attention on a CPU since torch 2.2."""
    name = '_scaled_dot_product_flash_attention_for_cpu'
    return {getattr(torch.ops.aten, name): _attention_flops} if hasattr(torch.ops.aten, name) else {}


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    """Return the operations of an attention; arguments are shapes, as FlopCounterMode gives them."""
    return sdpa_flop_count(query, key, value)
