"""Train the small backbone of the procedural world on pictures of its seen classes, about 10 minutes on two cores.

python tools/world/train_backbone.py configs/_base_/models/world_r18.pth
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from mmzeg.datasets.world import SEEN
from mmzeg.utils.atomic import write_whole
from mmzeg.utils.preflight import one_line_errors

sys.path.insert(0, str(Path(__file__).parent))
from segments import Segments, batches, draw_pool  # noqa: E402

CONFIG = Path(__file__).parents[2] / 'configs/zegformer_r18_world.py'
SIZE = 64


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--scenes', type=int, default=4000, help='scenes to draw, each some 5 pictures')
    parser.add_argument('--iters', type=int, default=3000, help='iterations')
    parser.add_argument('--batch', type=int, default=64, help='pictures an iteration')
    parser.add_argument('--lr', type=float, default=3e-3, help='highest learning rate')
    parser.add_argument('--workers', type=int, default=2, help='processes that draw')
    return parser.parse_args()


class Namer(nn.Module):
    """A backbone and a linear classifier on the mean of its last map."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, nn.Linear(channels, len(SEEN))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of the seen classes for (N, 3, H, W)."""
        return self.classifier(self.backbone(images)[-1].mean((2, 3)))


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
def accuracy(network: Namer, statistics: dict) -> float:
    """Percent of held-out single pictures named right."""
    network.eval()
    alone = Segments(SEEN, 20, SIZE, styles={}, pictures=len(SEEN), split='test', **statistics)
    right = [network(images).argmax(-1) == labels for images, labels in (alone[index] for index in range(len(alone)))]
    return 100 * torch.cat(right).float().mean().item()


@one_line_errors
def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    network, statistics = build()
    masked = Segments(SEEN, args.scenes, SIZE, styles=dict(cropmask=1.0), ragged=0.0, pictures=0, **statistics)
    pictures = Segments(SEEN, args.scenes // 2, SIZE, styles=dict(crop=1.0), ragged=0.0, pictures=8, **statistics)
    pools = [draw_pool(part, args.workers) for part in (masked, pictures)]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.iters, pct_start=0.1)
    losses = []
    for images, labels in batches(*pools, args.iters, args.batch):
        loss = F.cross_entropy(network(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f'iteration {len(losses)}: loss {sum(losses[-100:]) / 100:.3f}', flush=True)
    print(f'{accuracy(network, statistics):.1f} % of single pictures')
    state = network.backbone.state_dict()
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, lambda partial: torch.save(state, partial))
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MB')


if __name__ == '__main__':
    main()
