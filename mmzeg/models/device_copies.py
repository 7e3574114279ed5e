"""Copies from the host to a device, without a wait."""

import numpy as np
import torch
from torch import Tensor

from mmzeg.vocabulary import Vocabulary


def copy_to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return an array or a tensor as a tensor on a device, without a wait for the work that is queued there.

    A copy to a GPU waits for its stream unless the memory is pinned. torch keeps pinned memory for the next copy. A
    tensor of a GPU is copied to the host with a wait: its values are not there earlier.
    """
    # as_tensor() would make the tensor on torch's default device.
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    is_in_host_memory = tensor.device.type == 'cpu'
    if is_in_host_memory and device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=is_in_host_memory)


def seen_in_host_memory(vocabulary: Vocabulary) -> Tensor:
    """Return which classes are seen, (C,) bool, in host memory: ``ScoreFusion`` reads it without a wait."""
    return torch.from_numpy(np.array(vocabulary.seen_mask))
