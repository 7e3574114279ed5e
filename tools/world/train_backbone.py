"""Train the small backbone of the procedural world to name its seen classes, about 35 minutes on two cores.

python tools/world/train_backbone.py configs/_base_/models/world_r18.pth

First what fills a picture, then what is in scenes that hold nothing unseen: named alone, things are not yet found again
among others.
"""

import argparse
import sys
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
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.weight_files import read_state

sys.path.insert(0, str(Path(__file__).parent))
from segments import SEED, Segments, batches, draw_pool, one_thread, progress  # noqa: E402

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
SIZE, SCENE_SIZE = 64, 160


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--scenes', type=int, default=4000, help='scenes to cut into pictures, each some 5')
    parser.add_argument('--iters', type=int, default=3000, help='iterations of pictures')
    parser.add_argument('--batch', type=int, default=64, help='pictures an iteration')
    parser.add_argument('--lr', type=float, default=3e-3, help='highest learning rate with pictures')
    parser.add_argument('--scene-iters', type=int, default=4000, help='iterations of scenes')
    parser.add_argument('--scene-batch', type=int, default=12, help='scenes an iteration')
    parser.add_argument('--scene-lr', type=float, default=1.5e-3, help='highest learning rate with scenes')
    parser.add_argument('--held-out', type=int, default=300, help='scenes to test it on')
    parser.add_argument('--start', type=Path, help='weights that know pictures already: scenes alone')
    parser.add_argument('--workers', type=int, default=2, help='processes that draw')
    return parser.parse_args()


class Scenes(Dataset):
    """Scenes of seen classes: picture (3, H, W) uint8 RGB, and label map (H, W), indices of ``SEEN``."""

    def __init__(self, length: int, split: str = 'train') -> None:
        self.length, self.split = length, split
        self._seen = torch.tensor([SEEN.index(name) if name in SEEN else -1 for name in CLASSES])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, label_map = draw_scene(Scene(self.split, index, SCENE_SIZE, 0.0, SEED))
        return torch.from_numpy(picture).permute(2, 0, 1), self._seen[torch.from_numpy(label_map).long()]


class Namer(nn.Module):
    """A backbone and a linear classifier on the mean of its last map, or on its means over segments."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, nn.Linear(channels, len(SEEN))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of the seen classes for (N, 3, H, W)."""
        return self.classifier(self.backbone(images)[-1].mean((2, 3)))

    def name_segments(self, images: Tensor, label_maps: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (S, C) of every segment in (N, 3, H, W), and its class (S,) in the label maps (N, H, W)."""
        features = self.backbone(images)[-1]
        masks = F.one_hot(label_maps, len(SEEN)).movedim(-1, 1).float()
        masks = F.interpolate(masks, size=features.shape[-2:], mode='area')
        # Less than a fifth of a cell is not enough to be seen.
        image, label = (masks.sum((2, 3)) > 0.2).nonzero(as_tuple=True)
        masks = masks[image, label]
        means = torch.einsum('shw,schw->sc', masks, features[image]) / masks.sum((1, 2))[:, None]
        return self.classifier(means), label


def build() -> tuple[Namer, dict]:
    """The world's backbone without its weights, and mean and deviation of its input, RGB in 0..1."""
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
    return Namer(backbone, channels), statistics


@torch.no_grad()
def report(network: Namer, statistics: dict, scenes: int) -> None:
    """Print what percentage is named right of held-out single pictures, and of segments in held-out scenes."""
    network.eval()
    alone = Segments(SEEN, 20, SIZE, styles={}, pictures=len(SEEN), split='test', **statistics)
    right = [network(images).argmax(-1) == labels for images, labels in (alone[index] for index in range(len(alone)))]
    print(f'{100 * torch.cat(right).float().mean():.1f} % of single pictures')
    right = []
    for pictures, label_maps in DataLoader(Scenes(scenes, 'test'), batch_size=10):
        logits, labels = network.name_segments(normalized(pictures, statistics), label_maps)
        right.append(logits.argmax(-1) == labels)
    print(f'{100 * torch.cat(right).float().mean():.1f} % of segments in scenes')


def normalized(pictures: Tensor, statistics: dict) -> Tensor:
    """Pictures (N, 3, H, W) in 0..255 as the network wants them."""
    mean, std = (255 * torch.tensor(statistics[name])[:, None, None] for name in ('mean', 'std'))
    return (pictures - mean) / std


def pictures_of(args: argparse.Namespace, network: Namer, statistics: dict) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and classes of batches of pictures, cut from scenes or drawn alone."""
    masked = Segments(SEEN, args.scenes, SIZE, styles=dict(cropmask=1.0), ragged=0.0, pictures=0, **statistics)
    pictures = Segments(SEEN, args.scenes // 2, SIZE, styles=dict(crop=1.0), ragged=0.0, pictures=8, **statistics)
    pools = [draw_pool(part, args.workers) for part in (masked, pictures)]
    for images, labels in batches(*pools, args.iters, args.batch):
        yield network(images), labels


def scenes_of(args: argparse.Namespace, network: Namer, statistics: dict) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and classes of the segments of batches of scenes, each met once."""
    scenes = Scenes(args.scene_iters * args.scene_batch)
    loader = DataLoader(scenes, args.scene_batch, num_workers=args.workers, worker_init_fn=one_thread)
    for pictures, label_maps in progress(loader):
        yield network.name_segments(normalized(pictures, statistics), label_maps)


def train(network: Namer, named: Iterator[tuple[Tensor, Tensor]], iters: int, lr: float) -> None:
    """Teach the network by what it says of batch after batch."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, iters, pct_start=0.1)
    losses = []
    for logits, labels in named:
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
    # Before half an hour of training.
    if args.out.is_dir():
        raise IsADirectoryError(f'{args.out}: a folder: name the file to write')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network, statistics = build()
    if args.start:
        try:
            network.backbone.load_state_dict(read_state(args.start))
        except RuntimeError as error:
            raise ValueError(f'--start {args.start}: not weights of this backbone: give a file of this tool') from error
    else:
        train(network, pictures_of(args, network, statistics), args.iters, args.lr)
    train(network, scenes_of(args, network, statistics), args.scene_iters, args.scene_lr)
    state = network.backbone.state_dict()
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    atomic_write(args.out, lambda partial: torch.save(state, partial))
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MB')
    report(network, statistics, args.held_out)


if __name__ == '__main__':
    main()
