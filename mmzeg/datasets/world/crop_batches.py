"""Random, augmented batches of crops that are drawn once and kept in memory."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from mmzeg.datasets.world.segment_crops import SegmentCrops
from mmzeg.utils.processes import use_one_thread
from mmzeg.utils.progress import track_on_stderr


def draw_pool(dataset: SegmentCrops, num_workers: int) -> tuple[Tensor, Tensor]:
    """Draw all items of a dataset.

    Args:
        dataset (SegmentCrops): What to draw.
        num_workers (int): Number of processes that draw; 0 for this process.

    Returns:
        tuple[Tensor, Tensor]: Crops (N, 3, h, w) in half precision, and their labels (N,).
    """
    items = DataLoader(dataset, batch_size=None, num_workers=num_workers, worker_init_fn=use_one_thread)
    # Copies: a tensor of a worker holds a file descriptor.
    pairs = [(crops.half(), labels.clone()) for crops, labels in track_on_stderr(items)]
    crops, labels = zip(*pairs, strict=True)
    return torch.cat(crops), torch.cat(labels)


def draw_batches(
    masked: tuple[Tensor, Tensor], unmasked: tuple[Tensor, Tensor], iters: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random batches of two pools, every crop flipped, rotated, scaled, stretched and shifted at random.

    The first third of the batches holds only masked crops, the others half of each. A network learns a shape on a plain
    background in a minute, and then finds such shapes on textures; on textures alone it does not learn them in ten.

    Args:
        masked (tuple[Tensor, Tensor]): Crops without background and their labels, see ``draw_pool``.
        unmasked (tuple[Tensor, Tensor]): Crops with background and their labels.
        iters (int): Number of batches.
        batch_size (int): Crops in a batch.

    Yields:
        tuple[Tensor, Tensor]: Crops (N, 3, h, w) and their labels (N,).
    """
    for step in track_on_stderr(range(iters)):
        pools = [masked] if step < iters // 3 else [masked, unmasked]
        indices = [torch.randint(len(labels), (batch_size // len(pools),)) for _, labels in pools]
        crops = torch.cat([crops[index] for (crops, _), index in zip(pools, indices, strict=True)])
        labels = torch.cat([labels[index] for (_, labels), index in zip(pools, indices, strict=True)])
        yield _augment(crops.float()), labels


def _augment(crops: Tensor) -> Tensor:
    """Apply a random affine transform to every crop (N, 3, h, w); pixels from outside are zero, as masked ones are."""
    num_crops = len(crops)
    # Rotate 30 % only: half of the world's objects stand upright, and the others are rotated already.
    angle = 2 * torch.pi * torch.rand(num_crops) * (torch.rand(num_crops) < 0.3)
    scale = torch.empty(num_crops, 2).uniform_(0.85, 1.18)
    flip = torch.where(torch.rand(num_crops) < 0.5, -1.0, 1.0)
    shift = torch.empty(num_crops, 2).uniform_(-0.08, 0.08)
    # Compose the matrices and sample
    cos = angle.cos()
    sin = angle.sin()
    first_row = torch.stack([cos * scale[:, 0] * flip, -sin * scale[:, 1], shift[:, 0]], 1)
    second_row = torch.stack([sin * scale[:, 0] * flip, cos * scale[:, 1], shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([first_row, second_row], 1), list(crops.shape), align_corners=False)
    return F.grid_sample(crops, grid, align_corners=False)
