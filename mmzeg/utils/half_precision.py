"""Which devices compute in half precision."""

import torch

# Compute capability from which NVIDIA's GPUs have instructions for a precision.
MIN_CAPABILITY = {torch.float16: (5, 3), torch.bfloat16: (8, 0)}


def lacks_precision(dtype: torch.dtype, device: torch.device) -> str | None:
    """Return what a precision needs that a device does not have, to be put after its name; None if it has it.

    What other devices than CPUs and GPUs of NVIDIA have is left to torch.
    """
    if dtype not in MIN_CAPABILITY:
        return None
    if device.type == 'cpu':
        return 'needs a GPU' if dtype == torch.float16 else None
    if device.type != 'cuda' or torch.version.hip:
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability >= MIN_CAPABILITY[dtype]:
        return None
    needed, given = ('.'.join(map(str, version)) for version in (MIN_CAPABILITY[dtype], capability))
    return f'needs a GPU of compute capability {needed}, and {torch.cuda.get_device_name(device)} has {given}'
