"""What CLIP and the backbone of the procedural dataset are trained on: crops of segments, and images of one class."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from mmzeg.datasets.world import CLASSES, Scene, draw_object, draw_scene
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities

# Seed of the scenes for these trainings. The benchmark's scenes have seed 0, so none of them is used.
SEED = 1
# Segments of a scene of 128 pixels with fewer pixels than this are left out; in proportion for other sizes.
MIN_AREA = 40


class SegmentCrops(Dataset):
    """Item i: some images of one class each, and the crop of every segment of one scene, as the scorer cuts it.

    Args:
        classes (Sequence[str]): Class names; nothing else is drawn or cropped.
        length (int): Number of items.
        size (int): Height and width of a crop, in pixels.
        mean, std (tuple): Of RGB in 0..1.
        crop_modes (Mapping[str, float]): Frequency of each of the scorer's crop modes. Empty: no scenes, only images
            of one class.
        ragged (float): Probability that a scene has masks such as a head predicts, and not the ground truth. Defaults
            to 0.6.
        images_per_item (int): Images of one class in an item. Defaults to 4.
        split (str): Of the world. Defaults to ``train``.
    """

    def __init__(
        self,
        classes: Sequence[str],
        length: int,
        size: int,
        mean: tuple,
        std: tuple,
        crop_modes: Mapping[str, float],
        ragged: float = 0.6,
        images_per_item: int = 4,
        split: str = 'train',
    ) -> None:
        self.classes = list(classes)
        self.length = length
        self.size = size
        self.mean = 255 * torch.tensor(mean)[:, None, None]
        self.std = 255 * torch.tensor(std)[:, None, None]
        self.crop_modes = dict(crop_modes)
        self.ragged = ragged
        self.images_per_item = images_per_item
        self.split = split
        self.unseen_frequency = float(set(CLASSES) <= set(classes))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return crops (N, 3, size, size), normalized, and their labels (N,), indices of ``classes``."""
        crops = []
        labels = []
        # Images of one class: the classes in turn
        for offset in range(self.images_per_item):
            number = index * self.images_per_item + offset
            label = number % len(self.classes)
            image = draw_object(
                self.classes[label], self.split, number // len(self.classes), self.size, self.unseen_frequency
            )
            crops.append(self._normalize(image)[None])
            labels.append(label)
        # Segments of a scene
        if self.crop_modes:
            for crop, label in self._scene_crops(index):
                crops.append(crop)
                labels.append(label)
        return torch.cat(crops), torch.tensor(labels)

    def _scene_crops(self, index: int) -> list[tuple[Tensor, int]]:
        """Return the crop (1, 3, size, size) and the label of every segment of a scene."""
        generator = torch.Generator().manual_seed(index)
        # Draw the scene
        scene_size = (128, 192)[index % 2]
        pixels, label_map = draw_scene(Scene(self.split, index, scene_size, self.unseen_frequency, SEED))
        image = self._normalize(pixels)
        label_map = torch.from_numpy(label_map.astype(np.int64))
        # Make the masks of the classes, without very small ones
        present = [label for label in label_map.unique().tolist() if CLASSES[label] in self.classes]
        masks = torch.stack([label_map == label for label in present])
        is_large = masks.sum((1, 2)) >= MIN_AREA * (scene_size / 128) ** 2
        masks = masks[is_large]
        names = [CLASSES[label] for label, large in zip(present, is_large.tolist(), strict=True) if large]
        if not names:
            return []
        mask_probs = masks.float()
        if torch.rand((), generator=generator) < self.ragged:
            mask_probs = mask_probabilities(ragged_mask_logits(masks, generator), masks.shape[-2:])
        # Crop each segment in a random mode
        weights = torch.tensor(list(self.crop_modes.values()))
        modes = torch.multinomial(weights, len(names), replacement=True, generator=generator).tolist()
        crops = []
        for i, (mode, name) in enumerate(zip(modes, names, strict=True)):
            crop_mode = list(self.crop_modes)[mode]
            crop = crop_segments(image, mask_probs[i : i + 1], (self.size, self.size), crop_mode)
            crops.append((crop, self.classes.index(name)))
        return crops

    def _normalize(self, image: np.ndarray) -> Tensor:
        return (torch.from_numpy(image).permute(2, 0, 1).float() - self.mean) / self.std


def ragged_mask_logits(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Make mask logits such as a head predicts: uneven, dilated or eroded, incomplete, or with a piece of another mask.

    A mask whose IoU with the ground truth falls below 0.4 keeps its ground truth.

    Args:
        masks (Tensor): (N, H, W) bool.
        generator (torch.Generator): Source of all random numbers.

    Returns:
        Tensor: (N, H/4, W/4) mask logits.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(masks), 1, 1, generator=generator)

    # Blur the masks at the head's stride
    true = F.avg_pool2d(masks[:, None].float(), 4)[:, 0]
    height, width = true.shape[-2:]
    blurred = F.avg_pool2d(true[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    coverage = true.lerp(blurred, uniform(0, 1))
    # Choose a line through each mask, by angle and distance from the centre
    angle = uniform(0, 2 * torch.pi)
    y = torch.linspace(-0.5, 0.5, height)[:, None]
    x = torch.linspace(-0.5, 0.5, width)
    area = true.sum((1, 2), keepdim=True)
    centre_y = (true * y).sum((1, 2), keepdim=True) / area
    centre_x = (true * x).sum((1, 2), keepdim=True) / area
    beyond = angle.cos() * (x - centre_x) + angle.sin() * (y - centre_y) > uniform(0, 0.15)
    # Beyond it, a fifth of the masks lose their pixels, and a fifth add those of another mask
    fate = uniform(0, 1)
    other = coverage[torch.randperm(len(masks), generator=generator)]
    coverage = torch.where(beyond & (fate < 0.2), 0.2 * coverage, coverage)
    coverage = torch.where(beyond & (fate > 0.8), torch.maximum(coverage, 0.9 * other), coverage)
    # Add noise at two scales, and dilate or erode by a constant
    coarse = torch.randn(len(masks), 1, height // 6, width // 6, generator=generator)
    coarse = F.interpolate(coarse, size=(height, width), mode='bilinear', align_corners=False)[:, 0]
    fine = torch.randn(true.shape, generator=generator)
    noise = uniform(0, 0.3) * coarse + uniform(0, 0.15) * fine
    mask_logits = 8 * (coverage - 0.5 + noise + uniform(-0.25, 0.25))
    # Restore masks that have too little in common with the ground truth
    intersection = ((mask_logits > 0) & (true > 0.5)).sum((1, 2)).float()
    union = ((mask_logits > 0) | (true > 0.5)).sum((1, 2)).clamp(min=1)
    return torch.where((intersection / union < 0.4)[:, None, None], 8 * (true - 0.5), mask_logits)
