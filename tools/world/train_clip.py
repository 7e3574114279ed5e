"""Train the small CLIP of the procedural world, some 25 minutes on two cores.

python tools/world/train_clip.py configs/_base_/models/world_clip
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from mmzeg.clip.prompts import get_templates
from mmzeg.datasets.world import CLASSES, SYNONYMS
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors

sys.path.insert(0, str(Path(__file__).parent))
from segments import Segments, batches, draw_pool  # noqa: E402

# timm's smallest ResNet: on a CPU, and in the minutes there are, it learns three times as much as CLIP's ResNet made
# narrow. The text is nearly as wide as there are classes, so that names can lie at right angles.
CONFIG = dict(
    embed_dim=128,
    vision_cfg=dict(image_size=96, timm_model_name='test_resnet', timm_pool='avg', timm_proj='linear'),
    text_cfg=dict(context_length=24, vocab_size=49408, width=40, heads=1, layers=2),
)
STATISTICS = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
CROP_MODES = ('cropmask', 'crop', 'mask')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help="folder to write, in open_clip's layout of a hub model")
    parser.add_argument('--captions', type=Path, help='JSON of class -> words for it (default: its name and synonym)')
    parser.add_argument('--scenes', type=int, default=6000, help='scenes to draw, each some 5 sub-images')
    parser.add_argument('--iters', type=int, default=8000, help='iterations')
    parser.add_argument('--batch', type=int, default=64, help='sub-images an iteration')
    parser.add_argument('--lr', type=float, default=3e-3, help='highest learning rate')
    parser.add_argument('--held-out', type=int, default=300, help='scenes to test it on, in every style')
    parser.add_argument('--workers', type=int, default=2, help='processes that draw')
    return parser.parse_args()


def read_captions(path: Path | None) -> dict[str, list[str]]:
    """Words for every class of the world.

    Raises:
        ValueError: No JSON of class -> words, a class that the world does not have, or one that is left out.
    """
    if path is None:
        return {name: [name, *([SYNONYMS[name]] if name in SYNONYMS else [])] for name in CLASSES}
    try:
        captions = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: not JSON ({error}): write an object of class -> list of words') from error
    if not isinstance(captions, dict):
        raise ValueError(f'{path}: a list of captions is an object of class -> list of words')
    for name, words in captions.items():
        if name not in CLASSES:
            raise ValueError(f'{path}: class {name!r} is not in the world; its classes are {", ".join(CLASSES)}')
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f'{path}: class {name!r} needs a list of one or more words, got {words!r}')
    missing = [name for name in CLASSES if name not in captions]
    if missing:
        raise ValueError(f'{path}: class {missing[0]!r} has no caption: CLIP has to have met every class')
    return captions


class Captions:
    """A caption for every class, drawn anew at each call: one of its words in one of ImageNet's 80 templates."""

    def __init__(self, words: Mapping[str, list[str]]) -> None:
        self._words, self._templates = words, get_templates('imagenet')
        self._tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG['text_cfg']['context_length'])
        self._random = torch.Generator().manual_seed(0)

    def __call__(self) -> Tensor:
        """Tokens (C, context_length) in the order of ``CLASSES``."""
        captions = [self._pick(self._templates).replace('{}', self._pick(self._words[name])) for name in CLASSES]
        return self._tokenizer(captions)

    def _pick(self, choices: list[str]) -> str:
        return choices[torch.randint(len(choices), (), generator=self._random)]


def spread_names(network: nn.Module, captions: Captions, iters: int = 600) -> None:
    """Teach the text encoder alone that two captions of a class are alike and those of two classes at a right angle.

    Names that differ without being at right angles crowd into ten dimensions, and images then take ten times as long
    to learn which is which.
    """
    text = [weight for name, weight in network.named_parameters() if not name.startswith(('visual', 'logit'))]
    optimizer = torch.optim.AdamW(text, 4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, iters)
    for _ in range(iters):
        one, other = (F.normalize(network.encode_text(captions()), dim=-1) for _ in range(2))
        loss = (one @ other.t() - torch.eye(len(CLASSES))).square().sum() / len(CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(network: nn.Module, segments: Segments) -> float:
    """Percent of sub-images whose class, by its name in "a photo of a {}.", is the likeliest of all."""
    network.eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG['text_cfg']['context_length'])
    text = network.encode_text(tokenizer([f'a photo of a {name}.' for name in CLASSES]), normalize=True)
    right = total = 0
    for images, labels in (segments[index] for index in range(len(segments))):
        found = (network.encode_image(images, normalize=True) @ text.t()).argmax(-1)
        right, total = right + (found == labels).sum().item(), total + len(labels)
    network.train()
    return 100 * right / total


def report(network: nn.Module, scenes: int) -> None:
    """Print held-out accuracies, over so many scenes a style, and how far apart the names lie."""
    size = CONFIG['vision_cfg']['image_size']
    held_out = dict(size=size, split='test', **STATISTICS)
    alone = Segments(CLASSES, 20, styles={}, pictures=len(CLASSES), **held_out)
    print(f'{accuracy(network, alone):.1f} % of single pictures')
    for style in CROP_MODES:
        for ragged in (0.0, 1.0):
            cut = Segments(CLASSES, scenes, styles={style: 1.0}, ragged=ragged, pictures=0, **held_out)
            print(f'{accuracy(network, cut):.1f} % of {style}, {"ragged" if ragged else "true"} masks')
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG['text_cfg']['context_length'])
    with torch.no_grad():
        text = network.eval().encode_text(tokenizer([f'a photo of a {name}.' for name in CLASSES]), normalize=True)
    others = (text @ text.t())[~torch.eye(len(text), dtype=torch.bool)]
    print(f'cosine of two names: mean {others.mean():.2f}, greatest {others.max():.2f}')


def save(network: nn.Module, folder: Path) -> None:
    """Write weights in half precision and open_clip's config of them; whole files or none."""
    state = {
        name: tensor.half().contiguous() for name, tensor in network.state_dict().items() if tensor.is_floating_point()
    }
    path = folder / 'open_clip_model.safetensors'
    atomic_write(path, lambda partial: save_file(state, partial))
    config = json.dumps(dict(model_cfg=CONFIG, preprocess_cfg=STATISTICS), indent=1) + '\n'
    atomic_write(folder / 'open_clip_config.json', lambda partial: partial.write_text(config))
    print(f'{path}: {path.stat().st_size / 2**20:.1f} MB')


@one_line_errors
def main() -> None:
    args = parse_args()
    captions = Captions(read_captions(args.captions))
    # Before half an hour of training.
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = open_clip.CLIP(**CONFIG)
    spread_names(network, captions)
    # Kept as it is from here on: taught together, names that the images cannot tell apart yet become one.
    for name, weight in network.named_parameters():
        weight.requires_grad_(name.startswith(('visual', 'logit')))
    size = CONFIG['vision_cfg']['image_size']
    masked = Segments(CLASSES, args.scenes, size, styles=dict(cropmask=0.95, mask=0.05), pictures=0, **STATISTICS)
    pictures = Segments(CLASSES, args.scenes // 2, size, styles=dict(crop=1.0), pictures=6, **STATISTICS)
    pools = [draw_pool(part, args.workers) for part in (masked, pictures)]
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        dict(params=[weight for weight in trained if weight.ndim > 1], weight_decay=0.05),
        dict(params=[weight for weight in trained if weight.ndim <= 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.iters, pct_start=0.1)
    network.visual.to(memory_format=torch.channels_last)
    losses = []
    for images, labels in batches(*pools, args.iters, args.batch):
        # 1 to 100, as CLIP keeps its scale.
        scale = network.logit_scale.clamp(0, 4.6052).exp()
        with torch.no_grad():
            text = network.encode_text(captions())
        image = network.encode_image(images.contiguous(memory_format=torch.channels_last))
        logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f'iteration {len(losses)}: loss {sum(losses[-100:]) / 100:.3f}, scale {scale.item():.1f}', flush=True)
    network.logit_scale.data.clamp_(0, 4.6052)
    save(network, args.out)
    report(network, args.held_out)


if __name__ == '__main__':
    main()
