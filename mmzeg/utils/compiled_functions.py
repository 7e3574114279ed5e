"""torch.compile for functions whose outputs are kept."""

from collections.abc import Callable

import torch
from torch import Tensor

# Modes of torch.compile that replay no CUDA graphs.
MODES_WITHOUT_GRAPHS = (None, 'default', 'max-autotune-no-cudagraphs')


def compile_function(function: Callable, options: dict) -> Callable:
    """Return a function compiled by ``torch.compile``, whose outputs later calls do not overwrite.

    A CUDA graph writes into the same memory at every replay, and torch frees the outputs of one graph when another
    starts. Outputs are therefore copied, unless the options exclude CUDA graphs.

    Args:
        function (Callable): Returns a tensor, or tuples, named tuples and lists of tensors.
        options (dict): Keyword arguments of ``torch.compile``.
    """
    compiled = torch.compile(function, **options)
    has_default_backend = options.get('backend', 'inductor') == 'inductor' and not options.get('options')
    if has_default_backend and options.get('mode') in MODES_WITHOUT_GRAPHS:
        return compiled

    def call(*args: object, **kwargs: object) -> object:
        return _clone(compiled(*args, **kwargs))

    return call


def _clone(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    if not isinstance(value, (tuple, list)):
        return value
    items = map(_clone, value)
    # A named tuple takes its fields one by one.
    return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)
