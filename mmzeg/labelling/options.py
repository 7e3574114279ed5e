"""What the user of the labelling engine chooses."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelOptions:
    """The options of a labelling run.

    Args:
        images (str): Folder of the images, of any backend of MMEngine.
        out (str): Folder to write to.
        classes (Sequence[str], optional): Class names. Default to the config's.
        seen (Sequence[str], optional): The seen classes among them. Default to those of the training.
        mode, lam, gamma (optional): As in ``mmzeg.ScoreFusion``. Default to the config's.
        device (str, optional): Defaults to a GPU if there is one.
        batch_size (int): Images of one size that go through the network together. Defaults to 1.
        ignore_below (float): Pixels whose margin is lower are ignored, in [0, 1]. Defaults to 0.
        min_area (int): Regions of one class with fewer pixels are ignored. Defaults to 0.
        save_scores (bool): Whether to write the margins of all pixels. Defaults to False.

    Raises:
        ValueError: A number out of range.
    """

    images: str
    out: str
    classes: Sequence[str] | None = None
    seen: Sequence[str] | None = None
    mode: str | None = None
    lam: float | None = None
    gamma: float | None = None
    device: str | None = None
    batch_size: int = 1
    ignore_below: float = 0.0
    min_area: int = 0
    save_scores: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f'--batch-size must be 1 or more, got {self.batch_size}')
        if not 0 <= self.ignore_below <= 1:
            raise ValueError(f'--ignore-below must lie in [0, 1], as margins do, got {self.ignore_below}')
        if self.min_area < 0:
            raise ValueError(f'--min-area must be a number of pixels, 0 or more, got {self.min_area}')
