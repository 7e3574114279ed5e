"""Train the small CLIP of the procedural dataset, about 25 minutes on two cores.

python tools/world/train_clip.py configs/_base_/models/world_clip
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from mmengine.utils import to_2tuple
from safetensors.torch import save_file
from torch import Tensor, nn

from mmzeg.clip.prompts import get_templates
from mmzeg.datasets.world import CLASSES, SYNONYMS
from mmzeg.datasets.world.crop_batches import draw_batches, draw_pool
from mmzeg.datasets.world.segment_crops import SegmentCrops
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.preflight import one_line_errors

# timm's smallest ResNet: on a CPU it learns three times as much in the same time as CLIP's ResNet with fewer channels.
# The text embedding is nearly as wide as there are classes, so that the embeddings of all names can be orthogonal.
CONFIG = dict(
    embed_dim=128,
    vision_cfg=dict(image_size=96, timm_model_name='test_resnet', timm_pool='avg', timm_proj='linear'),
    text_cfg=dict(context_length=24, vocab_size=49408, width=40, heads=1, layers=2),
)
STATISTICS = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
TEST_CROP_MODES = ('cropmask', 'crop', 'mask')
# CLIP keeps its logit scale between 1 and 100; this is log(100).
MAX_LOG_SCALE = 4.6052


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help="folder to write, in open_clip's layout of a hub model")
    parser.add_argument(
        '--vision-cfg',
        nargs='+',
        action=DictAction,
        help="open_clip's fields of another image encoder: key=value ..., such as image_size=96 patch_size=16",
    )
    parser.add_argument('--captions', type=Path, help='JSON of class -> words for it (default: its name and synonym)')
    parser.add_argument('--scenes', type=int, default=6000, help='scenes to draw, about 5 crops each')
    parser.add_argument('--iters', type=int, default=8000, help='iterations')
    parser.add_argument('--batch', type=int, default=64, help='crops per iteration')
    parser.add_argument('--lr', type=float, default=3e-3, help='highest learning rate')
    parser.add_argument('--held-out', type=int, default=300, help='number of scenes to test on, in every crop mode')
    parser.add_argument('--workers', type=int, default=2, help='processes that draw')
    return parser.parse_args()


def read_captions(path: Path | None) -> dict[str, list[str]]:
    """Read the words for every class of the world; by default its name and its synonym.

    Raises:
        ValueError: Not a JSON object of class -> words, an unknown class, or a class without a caption.
    """
    if path is None:
        return {name: [name, *([SYNONYMS[name]] if name in SYNONYMS else [])] for name in CLASSES}
    try:
        captions = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: not JSON ({error}): write an object of class -> list of words') from error
    if not isinstance(captions, dict):
        raise ValueError(f'{path}: not a JSON object: write an object of class -> list of words')
    for name, words in captions.items():
        if name not in CLASSES:
            raise ValueError(f'{path}: class {name!r} is not in the world; its classes are {", ".join(CLASSES)}')
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f'{path}: class {name!r} needs a list of one or more words, got {words!r}')
    missing = [name for name in CLASSES if name not in captions]
    if missing:
        raise ValueError(f'{path}: class {missing[0]!r} has no caption: CLIP must be trained on every class')
    return captions


class Captions:
    """A random caption for every class at each call: one of its words in one of ImageNet's 80 templates."""

    def __init__(self, words: Mapping[str, list[str]]) -> None:
        self._words = words
        self._templates = get_templates('imagenet')
        self._tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG['text_cfg']['context_length'])
        self._random = torch.Generator().manual_seed(0)

    def __call__(self) -> Tensor:
        """Return tokens (C, context_length) in the order of ``CLASSES``."""
        captions = [self._choose(self._templates).replace('{}', self._choose(self._words[name])) for name in CLASSES]
        return self._tokenizer(captions)

    def _choose(self, choices: list[str]) -> str:
        return choices[torch.randint(len(choices), (), generator=self._random)]


def build_network(model_config: Mapping) -> nn.Module:
    """Build a CLIP with random weights, and try it on one image before anything long starts.

    Raises:
        ValueError: The fields of the image encoder are not open_clip's, or do not fit each other.
    """
    try:
        network = open_clip.CLIP(**model_config).eval()
        size = image_size(network)
        with torch.no_grad():
            network.encode_image(torch.zeros(1, 3, size, size))
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        fields = ' '.join(f'{key}={value}' for key, value in model_config['vision_cfg'].items())
        raise ValueError(
            f'--vision-cfg {fields}: open_clip cannot run it ({error}); give fields of its CLIPVisionCfg that fit'
        ) from error
    return network.train()


def image_size(network: nn.Module) -> int:
    """Return the height and width, in pixels, of the images that CLIP takes."""
    return to_2tuple(network.visual.image_size)[0]


def train_text_encoder(network: nn.Module, captions: Captions, iters: int = 600) -> None:
    """Train the text encoder: two captions of a class get the same embedding, those of two classes orthogonal ones.

    Without this stage the text embeddings use about ten dimensions, and the image encoder needs ten times as long to
    separate the classes.
    """
    text_weights = [weight for name, weight in network.named_parameters() if not name.startswith(('visual', 'logit'))]
    optimizer = torch.optim.AdamW(text_weights, 4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, iters)
    for _ in range(iters):
        first, second = (F.normalize(network.encode_text(captions()), dim=-1) for _ in range(2))
        loss = (first @ second.t() - torch.eye(len(CLASSES))).square().sum() / len(CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def train_image_encoder(network: nn.Module, captions: Captions, args: argparse.Namespace) -> None:
    """Train the image encoder and the logit scale on crops and captions; the text encoder is frozen.

    Trained together, the two encoders merge the text embeddings of classes that the image encoder cannot separate yet.
    """
    for name, weight in network.named_parameters():
        weight.requires_grad_(name.startswith(('visual', 'logit')))
    # Draw all crops
    size = image_size(network)
    masked = SegmentCrops(
        CLASSES, args.scenes, size, crop_modes=dict(cropmask=0.95, mask=0.05), images_per_item=0, **STATISTICS
    )
    unmasked = SegmentCrops(CLASSES, args.scenes // 2, size, crop_modes=dict(crop=1.0), images_per_item=6, **STATISTICS)
    pools = [draw_pool(dataset, args.workers) for dataset in (masked, unmasked)]
    # Build the optimizer: no weight decay on norm layers, biases and the logit scale
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        dict(params=[weight for weight in trained if weight.ndim > 1], weight_decay=0.05),
        dict(params=[weight for weight in trained if weight.ndim <= 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.iters, pct_start=0.1)
    network.visual.to(memory_format=torch.channels_last)
    losses = []
    for crops, labels in draw_batches(*pools, args.iters, args.batch):
        # Compare crops with one caption of every class
        scale = network.logit_scale.clamp(0, MAX_LOG_SCALE).exp()
        with torch.no_grad():
            text = network.encode_text(captions())
        image = network.encode_image(crops.contiguous(memory_format=torch.channels_last))
        logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        # Update the weights
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f'iteration {len(losses)}: loss {sum(losses[-100:]) / 100:.3f}, scale {scale.item():.1f}', flush=True)
    network.logit_scale.data.clamp_(0, MAX_LOG_SCALE)


@torch.no_grad()
def class_name_embeddings(network: nn.Module) -> Tensor:
    """Return unit text embeddings (C, d) of all classes in "a photo of a {}."."""
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG['text_cfg']['context_length'])
    return network.encode_text(tokenizer([f'a photo of a {name}.' for name in CLASSES]), normalize=True)


@torch.no_grad()
def accuracy(network: nn.Module, dataset: SegmentCrops) -> float:
    """Return the percentage of crops that are classified correctly by their similarity with all class names."""
    network.eval()
    text = class_name_embeddings(network)
    num_correct = 0
    num_crops = 0
    for index in range(len(dataset)):
        crops, labels = dataset[index]
        predictions = (network.encode_image(crops, normalize=True) @ text.t()).argmax(-1)
        num_correct += (predictions == labels).sum().item()
        num_crops += len(labels)
    network.train()
    return 100 * num_correct / num_crops


def report(network: nn.Module, num_scenes: int) -> None:
    """Print accuracies on held-out scenes in every crop mode, and the similarity of the class names."""
    held_out = dict(size=image_size(network), split='test', **STATISTICS)
    # Images of one class
    single = SegmentCrops(CLASSES, 20, crop_modes={}, images_per_item=len(CLASSES), **held_out)
    print(f'{accuracy(network, single):.1f} % of images of a single class')
    # Crops of scenes
    for crop_mode in TEST_CROP_MODES:
        for ragged, masks in ((0.0, 'ground-truth masks'), (1.0, 'ragged masks')):
            dataset = SegmentCrops(
                CLASSES, num_scenes, crop_modes={crop_mode: 1.0}, ragged=ragged, images_per_item=0, **held_out
            )
            print(f'{accuracy(network, dataset):.1f} % of {crop_mode}, {masks}')
    # Class names
    text = class_name_embeddings(network.eval())
    others = (text @ text.t())[~torch.eye(len(text), dtype=torch.bool)]
    print(f'cosine of two class names: mean {others.mean():.2f}, greatest {others.max():.2f}')


def save(network: nn.Module, model_config: Mapping, folder: Path) -> None:
    """Write the weights in half precision and open_clip's config, both atomically."""
    state = {
        name: tensor.half().contiguous() for name, tensor in network.state_dict().items() if tensor.is_floating_point()
    }
    path = folder / 'open_clip_model.safetensors'
    atomic_write(path, lambda partial: save_file(state, partial))
    config = json.dumps(dict(model_cfg=model_config, preprocess_cfg=STATISTICS), indent=1) + '\n'
    atomic_write(folder / 'open_clip_config.json', lambda partial: partial.write_text(config))
    print(f'{path}: {path.stat().st_size / 2**20:.1f} MB')


@one_line_errors
def main() -> None:
    args = parse_args()
    captions = Captions(read_captions(args.captions))
    model_config = dict(CONFIG, vision_cfg=args.vision_cfg or CONFIG['vision_cfg'])
    # Check the output before half an hour of training
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = build_network(model_config)
    train_text_encoder(network, captions)
    train_image_encoder(network, captions, args)
    save(network, model_config, args.out)
    report(network, args.held_out)


if __name__ == '__main__':
    main()
