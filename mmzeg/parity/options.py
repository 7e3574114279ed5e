"""On what device, and in what way, a golden case is checked."""

from dataclasses import dataclass

import torch

from mmzeg.utils.preflight import check_device


@dataclass(frozen=True)
class CheckOptions:
    """How a case is checked.

    Args:
        device (str): ``cpu`` or ``cuda``.
        execution (str): Mode of ``mmzeg.models.Execution``. Only ZegFormer's and OVSeg's cases have both modes.

    Raises:
        ValueError: No such device.
    """

    device: str = 'cpu'
    execution: str = 'auto'

    def __post_init__(self) -> None:
        check_device(self.device)

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)
