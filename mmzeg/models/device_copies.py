"""Copies of small arrays from the host to a device."""

import numpy as np
import torch
from torch import Tensor


def copy_to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on a device, without a wait for the work that is queued there.

    A copy to a GPU waits for its stream unless the memory is pinned. torch keeps pinned memory for the next copy.
    """
    tensor = torch.from_numpy(array)
    if device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
