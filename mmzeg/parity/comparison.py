"""The result of one golden case: a row per value, each with its difference and its tolerance."""

from collections.abc import Mapping

from prettytable import PrettyTable
from torch import Tensor

# Relative to the golden tensor's largest magnitude.
TENSOR_TOLERANCE = 1e-3
# Relative to the golden loss.
LOSS_TOLERANCE = 1e-4
# Absolute, of FC-CLIP's ensemble, which is a probability.
ENSEMBLE_TOLERANCE = 1e-4
# Part of a label map's pixels that may differ: a mask logit within rounding of zero may move a crop by a pixel.
LABEL_TOLERANCE = 1e-3


class Comparison:
    """Compare values with those of a case, and collect a row for each.

    Args:
        tensors (Mapping[str, Tensor]): All golden tensors that must be compared, by name.

    Attributes:
        table (PrettyTable): The rows so far.
        num_failed (int): How many of them exceed their tolerance.
        not_compared (set[str]): Names of the golden tensors that no row compares yet.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.golden = tensors
        self.not_compared = set(tensors)
        self.table = PrettyTable(['value', 'difference', 'allowed', 'ok'], align='l')
        self.num_failed = 0

    def add_row(self, name: str, difference: float, tolerance: float) -> None:
        """Add a row; it fails if the difference exceeds the tolerance or is NaN."""
        is_ok = difference <= tolerance
        self.num_failed += not is_ok
        self.table.add_row([name, f'{difference:.2e}', f'{tolerance:.0e}', 'yes' if is_ok else 'NO'])

    def compare_loss(self, name: str, ours: float, golden: float) -> None:
        """Add the row of a loss: relative difference."""
        self.add_row(name, abs(ours - golden) / max(abs(golden), 1e-12), LOSS_TOLERANCE)

    def compare_tensor(self, name: str, ours: Tensor) -> None:
        """Add the row of a tensor; of a label map, whose name begins with ``argmax``, that of its differing pixels.

        Where the golden tensor is NaN, as the released code gives for some segments, nothing is compared.
        """
        golden = self.golden[name]
        ours = ours.cpu()
        self.not_compared.discard(name)
        if golden.shape != ours.shape:
            self.add_row(f'{name} {tuple(ours.shape)} for {tuple(golden.shape)}', float('nan'), 0)
        elif name.startswith('argmax'):
            self.add_row(name, (ours != golden).float().mean().item(), LABEL_TOLERANCE)
        else:
            is_number = ~golden.isnan()
            golden = golden[is_number].float()
            ours = ours[is_number].float()
            if golden.numel() == 0:
                self.add_row(name, 0.0, TENSOR_TOLERANCE)
            elif name == 'ensemble':
                self.add_row(name, (ours - golden).abs().max().item(), ENSEMBLE_TOLERANCE)
            else:
                magnitude = golden.abs().max().clamp(min=1e-30)
                self.add_row(name, ((ours - golden).abs().max() / magnitude).item(), TENSOR_TOLERANCE)

    def fail_not_compared(self) -> None:
        """Add a failing row for every golden tensor that was not compared."""
        for name in sorted(self.not_compared):
            self.add_row(f'{name} (not compared)', float('nan'), 0.0)
