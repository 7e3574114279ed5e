"""What CLIP and the backbone learn the world from: sub-images of classes, cut from scenes or drawn alone."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.utils import track_iter_progress
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmzeg.datasets.world import CLASSES, Scene, draw_object, draw_scene
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities

# A world of its own, so that no scene of the benchmark is met here.
SEED = 1


class Segments(Dataset):
    """Item i: some pictures of one class each, and every segment of one scene, cut as the scorer cuts them.

    Args:
        names (list[str]): The classes; nothing else is drawn or cut.
        length (int): Number of items.
        size (int): Height and width of a sub-image, in pixels.
        mean, std (tuple): Of RGB in 0..1.
        styles (dict[str, float]): How often a segment is cut in which of the scorer's styles. Empty: pictures alone.
        ragged (float): How often a scene's masks are such as a head predicts, rather than the true ones.
        pictures (int): Pictures an item.
        split (str): Of the world.
    """

    def __init__(
        self,
        names: list[str],
        length: int,
        size: int,
        mean: tuple,
        std: tuple,
        styles: dict[str, float],
        ragged: float = 0.6,
        pictures: int = 4,
        split: str = 'train',
    ) -> None:
        self.names, self.length, self.size, self.styles = list(names), length, size, styles
        self.mean, self.std = (255 * torch.tensor(values)[:, None, None] for values in (mean, std))
        self.ragged, self.pictures, self.split = ragged, pictures, split
        self.unseen_share = float(set(CLASSES) <= set(names))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sub-images (N, 3, size, size), normalised, and their classes (N,), indices of ``names``."""
        generator = torch.Generator().manual_seed(index)
        parts, labels = [], []
        for offset in range(self.pictures):
            number = index * self.pictures + offset
            name = self.names[number % len(self.names)]
            picture = draw_object(name, self.split, number // len(self.names), self.size, self.unseen_share)
            parts.append(self._normalize(picture)[None])
            labels.append(self.names.index(name))
        for part, label in self._segments(index, generator) if self.styles else ():
            parts.append(part)
            labels.append(label)
        return torch.cat(parts), torch.tensor(labels)

    def _segments(self, index: int, generator: torch.Generator) -> list[tuple[Tensor, int]]:
        size = (128, 192)[index % 2]
        picture, label_map = draw_scene(Scene(self.split, index, size, self.unseen_share, SEED))
        image, label_map = self._normalize(picture), torch.from_numpy(label_map.astype(np.int64))
        present = [label for label in label_map.unique().tolist() if CLASSES[label] in self.names]
        masks = torch.stack([label_map == label for label in present])
        keep = masks.sum((1, 2)) >= 40 * (size / 128) ** 2
        masks, present = masks[keep], [label for label, kept in zip(present, keep.tolist(), strict=True) if kept]
        if not present:
            return []
        seen_by = masks.float()
        if torch.rand((), generator=generator) < self.ragged:
            seen_by = mask_probabilities(ragged_logits(masks, generator), masks.shape[-2:])
        kinds, weights = list(self.styles), torch.tensor(list(self.styles.values()))
        chosen = torch.multinomial(weights, len(present), replacement=True, generator=generator).tolist()
        return [
            (crop_segments(image, seen_by[i : i + 1], (self.size, self.size), kinds[kind]), self.names.index(name))
            for i, (kind, name) in enumerate(zip(chosen, (CLASSES[label] for label in present), strict=True))
        ]

    def _normalize(self, picture: np.ndarray) -> Tensor:
        return (torch.from_numpy(picture).permute(2, 0, 1).float() - self.mean) / self.std


def ragged_logits(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Mask logits (N, H/4, W/4) such as a head gives for true masks (N, H, W): uneven, grown or shrunk, torn, leaking.

    A mask that lost or gained too much to say whose it is (IoU below 0.4) stays as it was.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(masks), 1, 1, generator=generator)

    true = F.avg_pool2d(masks[:, None].float(), 4)[:, 0]
    height, width = true.shape[-2:]
    share = true.lerp(F.avg_pool2d(true[:, None], 3, 1, 1, count_include_pad=False)[:, 0], uniform(0, 1))
    # A part beyond a line is lost, or what another segment has there is taken in.
    angle = uniform(0, 2 * torch.pi)
    y, x = torch.linspace(-0.5, 0.5, height)[:, None], torch.linspace(-0.5, 0.5, width)
    centre_y, centre_x = ((true * axis).sum((1, 2), keepdim=True) / true.sum((1, 2), keepdim=True) for axis in (y, x))
    beyond = angle.cos() * (x - centre_x) + angle.sin() * (y - centre_y) > uniform(0, 0.15)
    fate, other = uniform(0, 1), share[torch.randperm(len(masks), generator=generator)]
    share = torch.where(beyond & (fate < 0.2), 0.2 * share, share)
    share = torch.where(beyond & (fate > 0.8), torch.maximum(share, 0.9 * other), share)
    cells = torch.randn(len(masks), 1, height // 6, width // 6, generator=generator)
    rough = F.interpolate(cells, size=(height, width), mode='bilinear', align_corners=False)[:, 0]
    fine = torch.randn(true.shape, generator=generator)
    noise = uniform(0, 0.3) * rough + uniform(0, 0.15) * fine
    found = 8 * (share - 0.5 + noise + uniform(-0.25, 0.25))
    common = ((found > 0) & (true > 0.5)).sum((1, 2)).float()
    union = ((found > 0) | (true > 0.5)).sum((1, 2)).clamp(min=1)
    return torch.where((common / union < 0.4)[:, None, None], 8 * (true - 0.5), found)


def draw_pool(segments: Segments, workers: int) -> tuple[Tensor, Tensor]:
    """Every item's sub-images (N, 3, h, w) in half precision and their classes (N,), drawn by so many processes."""
    items = DataLoader(segments, batch_size=None, num_workers=workers, worker_init_fn=one_thread)
    # Copies: what a worker hands over holds a file descriptor each.
    pictures, labels = zip(*((part.half(), label.clone()) for part, label in progress(items)), strict=True)
    return torch.cat(pictures), torch.cat(labels)


def batches(
    masked: tuple[Tensor, Tensor], pictures: tuple[Tensor, Tensor], iters: int, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches of two pools, each sub-image mirrored, turned, scaled, stretched and moved in its own way.

    In the first third only masked ones, then both by half: a shape on nothing is learned in a minute, and then helps to
    find shapes on a ground, which alone are not learned in ten. What is turned in from outside is zero, as what is
    masked.
    """
    for step in progress(range(iters)):
        pools = [masked] if step < iters // 3 else [masked, pictures]
        chosen = [torch.randint(len(pool[1]), (size // len(pools),)) for pool in pools]
        images, labels = (
            torch.cat([pool[part][index] for pool, index in zip(pools, chosen, strict=True)]) for part in (0, 1)
        )
        yield _bent(images.float()), labels


def _bent(pictures: Tensor) -> Tensor:
    count = len(pictures)
    # Half of the world's things stand upright, the others are turned already.
    angle = 2 * torch.pi * torch.rand(count) * (torch.rand(count) < 0.3)
    scale = torch.empty(count, 2).uniform_(0.85, 1.18)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = torch.empty(count, 2).uniform_(-0.08, 0.08)
    c, s = angle.cos(), angle.sin()
    rows = torch.stack([c * scale[:, 0] * mirror, -s * scale[:, 1], shift[:, 0]], 1)
    columns = torch.stack([s * scale[:, 0] * mirror, c * scale[:, 1], shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([rows, columns], 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False)


def progress(task: Sequence) -> Iterator:
    """The items of a task, with a bar on stderr."""
    return track_iter_progress((task, len(task)), file=sys.stderr)


def one_thread(_: int) -> None:
    """For a process that draws beside others."""
    torch.set_num_threads(1)
