"""Train the small backbone of the procedural dataset to classify its seen classes, about 35 minutes on two cores.

python tools/world/train_backbone.py configs/_base_/models/world_r18.pth

The training has two stages: crops of one class, then the segments of scenes without unseen classes. A backbone that
classifies crops does not yet separate an object from its neighbours.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmzeg.datasets.world import CLASSES, SEEN, Scene, draw_scene
from mmzeg.datasets.world.crop_batches import draw_batches, draw_pool
from mmzeg.datasets.world.segment_crops import SEED, SegmentCrops
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.processes import use_one_thread
from mmzeg.utils.progress import track_on_stderr
from mmzeg.utils.weight_files import read_state

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
CROP_SIZE = 64
SCENE_SIZE = 160
# Cells of the last feature map that a segment must cover to be classified.
MIN_CELLS = 0.2


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--scenes', type=int, default=4000, help='scenes to crop, about 5 crops each')
    parser.add_argument('--iters', type=int, default=3000, help='iterations on crops')
    parser.add_argument('--batch', type=int, default=64, help='crops per iteration')
    parser.add_argument('--lr', type=float, default=3e-3, help='highest learning rate on crops')
    parser.add_argument('--scene-iters', type=int, default=4000, help='iterations on scenes')
    parser.add_argument('--scene-batch', type=int, default=12, help='scenes per iteration')
    parser.add_argument('--scene-lr', type=float, default=1.5e-3, help='highest learning rate on scenes')
    parser.add_argument('--held-out', type=int, default=300, help='number of scenes to test on')
    parser.add_argument('--start', type=Path, help='weights that were trained on crops: train on scenes only')
    parser.add_argument('--workers', type=int, default=2, help='processes that draw')
    return parser.parse_args()


class Scenes(Dataset):
    """Scenes of seen classes: image (3, H, W) uint8 RGB, and label map (H, W), indices of ``SEEN``."""

    def __init__(self, length: int, split: str = 'train') -> None:
        self.length = length
        self.split = split
        self._seen_index = torch.tensor([SEEN.index(name) if name in SEEN else -1 for name in CLASSES])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label_map = draw_scene(Scene(self.split, index, SCENE_SIZE, 0.0, SEED))
        return torch.from_numpy(image).permute(2, 0, 1), self._seen_index[torch.from_numpy(label_map).long()]


class SegmentClassifier(nn.Module):
    """A backbone and a linear classifier on the mean of its last map, over the image or over each segment."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(channels, len(SEEN))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (N, 3, H, W): logits (N, C) of the seen classes."""
        return self.classifier(self.backbone(images)[-1].mean((2, 3)))

    def classify_segments(self, images: Tensor, label_maps: Tensor) -> tuple[Tensor, Tensor]:
        """Classify the segments of label maps.

        Args:
            images (Tensor): (N, 3, H, W).
            label_maps (Tensor): (N, H, W), indices of ``SEEN``.

        Returns:
            tuple[Tensor, Tensor]: Logits (S, C) of all S segments, and their labels (S,).
        """
        features = self.backbone(images)[-1]
        # Area of each class in each cell of the feature map
        masks = F.one_hot(label_maps, len(SEEN)).movedim(-1, 1).float()
        masks = F.interpolate(masks, size=features.shape[-2:], mode='area')
        image_indices, labels = (masks.sum((2, 3)) > MIN_CELLS).nonzero(as_tuple=True)
        masks = masks[image_indices, labels]
        # Mean feature of each segment
        means = torch.einsum('shw,schw->sc', masks, features[image_indices]) / masks.sum((1, 2))[:, None]
        return self.classifier(means), labels


def build() -> tuple[SegmentClassifier, dict]:
    """Build the world's backbone with random weights; return it with mean and deviation of its input, RGB in 0..1."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    model = Config.fromfile(CONFIG).model
    backbone = MODELS.build(dict(model.backbone, init_cfg=None))
    backbone.init_weights()
    preprocessor = model.data_preprocessor
    statistics = {name: tuple(value / 255 for value in preprocessor[name]) for name in ('mean', 'std')}
    backbone.eval()
    with torch.no_grad():
        channels = backbone(torch.zeros(1, 3, 64, 64))[-1].shape[1]
    return SegmentClassifier(backbone, channels), statistics


@torch.no_grad()
def report(network: SegmentClassifier, statistics: dict, num_scenes: int) -> None:
    """Print the accuracy on held-out images of one class, and on the segments of held-out scenes."""
    network.eval()
    # Images of one class
    single = SegmentCrops(SEEN, 20, CROP_SIZE, crop_modes={}, images_per_item=len(SEEN), split='test', **statistics)
    correct = []
    for index in range(len(single)):
        images, labels = single[index]
        correct.append(network(images).argmax(-1) == labels)
    print(f'{100 * torch.cat(correct).float().mean():.1f} % of images of a single class')
    # Segments of scenes
    correct = []
    for images, label_maps in DataLoader(Scenes(num_scenes, 'test'), batch_size=10):
        logits, labels = network.classify_segments(normalize(images, statistics), label_maps)
        correct.append(logits.argmax(-1) == labels)
    print(f'{100 * torch.cat(correct).float().mean():.1f} % of segments in scenes')


def normalize(images: Tensor, statistics: dict) -> Tensor:
    """Normalize images (N, 3, H, W) in 0..255."""
    mean, std = (255 * torch.tensor(statistics[name])[:, None, None] for name in ('mean', 'std'))
    return (images - mean) / std


def classify_crops(
    args: argparse.Namespace, network: SegmentClassifier, statistics: dict
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels of batches of crops: masked ones of scenes, and images of one class."""
    masked = SegmentCrops(
        SEEN, args.scenes, CROP_SIZE, crop_modes=dict(cropmask=1.0), ragged=0.0, images_per_item=0, **statistics
    )
    unmasked = SegmentCrops(
        SEEN, args.scenes // 2, CROP_SIZE, crop_modes=dict(crop=1.0), ragged=0.0, images_per_item=8, **statistics
    )
    pools = [draw_pool(dataset, args.workers) for dataset in (masked, unmasked)]
    for crops, labels in draw_batches(*pools, args.iters, args.batch):
        yield network(crops), labels


def classify_scenes(
    args: argparse.Namespace, network: SegmentClassifier, statistics: dict
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels of the segments of batches of scenes; no scene occurs twice."""
    scenes = Scenes(args.scene_iters * args.scene_batch)
    loader = DataLoader(scenes, args.scene_batch, num_workers=args.workers, worker_init_fn=use_one_thread)
    for images, label_maps in track_on_stderr(loader):
        yield network.classify_segments(normalize(images, statistics), label_maps)


def train(network: SegmentClassifier, batches: Iterator[tuple[Tensor, Tensor]], iters: int, lr: float) -> None:
    """Train a network.

    Args:
        network (SegmentClassifier): The network.
        batches (Iterator): Logits (N, C) that the network predicts, and labels (N,), one pair per iteration.
        iters (int): Number of batches.
        lr (float): Highest learning rate.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, iters, pct_start=0.1)
    losses = []
    for logits, labels in batches:
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f'iteration {len(losses)}: loss {sum(losses[-100:]) / 100:.3f}', flush=True)


@one_line_errors
def main() -> None:
    args = parse_args()
    # Check the output before half an hour of training
    if args.out.is_dir():
        raise IsADirectoryError(f'{args.out}: a folder: name the file to write')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network, statistics = build()
    # Train on crops, or load weights that were, then train on scenes
    if args.start:
        try:
            network.backbone.load_state_dict(read_state(args.start))
        except RuntimeError as error:
            raise ValueError(
                f'--start {args.start}: not weights of this backbone: give a file that this tool wrote'
            ) from error
    else:
        train(network, classify_crops(args, network, statistics), args.iters, args.lr)
    train(network, classify_scenes(args, network, statistics), args.scene_iters, args.scene_lr)
    # Write the backbone in half precision
    state = network.backbone.state_dict()
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    atomic_write(args.out, lambda partial: torch.save(state, partial))
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MB')
    report(network, statistics, args.held_out)


if __name__ == '__main__':
    main()
