"""Time and memory of a test image by stage: configs and ways of asking CLIP, interleaved in one run.

python tools/analysis_tools/benchmark.py configs/zegformer_r50_coco.py --random-clip ViT-B-16 --empties 0 60
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import open_clip
import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from prettytable import PrettyTable
from safetensors.torch import save_file
from torch import Tensor, nn

from mmzeg.clip import CLIP
from mmzeg.clip.clip import PRECISIONS
from mmzeg.clip.text_cache import TextCache
from mmzeg.models import ScoreFusion, ZegFormer
from mmzeg.models.scorers.one_pass_scorer import OnePassScorer
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_device, one_line_errors

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / 'tests')]
from measuring import PeakMemory, Stopwatch, in_turns  # noqa: E402
from plain_reference import ReferenceScorer  # noqa: E402
from sweep import load, other_scorer, write  # noqa: E402

STAGES = ('data', 'backbone', 'head', 'crops', 'CLIP', 'pruning', 'fusion', 'map')
# What is changed of a config's scorer; `reference` is the way of the released code, from the method's description.
VARIANTS: dict[str, dict] = {
    'reference': {},
    'exact': {},
    'guaranteed': dict(pruning=dict(type='mmzeg.GuaranteedPruning')),
    'merged': dict(merge_iou_thr=0.4),
    'threshold': dict(merge_iou_thr=0.4, pruning=dict(type='mmzeg.ThresholdPruning', threshold=0.5, heard=0.4)),
    'one-pass': {},
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', help='config files of ZegFormers; weights are random')
    parser.add_argument('--variants', nargs='+', choices=list(VARIANTS), default=list(VARIANTS), help='ways of asking')
    parser.add_argument('--beside', nargs='+', default=[], help="other segmentors' configs, mmseg::... for mmseg's own")
    parser.add_argument('--image-size', nargs=2, type=int, default=[640, 853], metavar=('H', 'W'), help='in pixels')
    parser.add_argument('--empties', nargs='+', type=int, default=[0], help='so many masks are made empty')
    parser.add_argument(
        '--like', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='masks and no-object scores as of this trained model'
    )
    parser.add_argument('--random-clip', metavar='MODEL', help='an architecture of open_clip, with random weights')
    parser.add_argument('--precision', choices=list(PRECISIONS), help='of CLIP; that of the reference stays as it is')
    parser.add_argument('--classes', type=int, help="so many made-up names in place of the config's")
    parser.add_argument('--repeats', type=int, default=3, help='after one for warming up')
    parser.add_argument('--seed', type=int, default=0, help='of weights and image')
    parser.add_argument('--device', default=get_device(), help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='file of all figures')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


@dataclass
class Case:
    """One row: a model, what is done to it, and what was measured."""

    config: str
    variant: str
    empties: int | None
    model: nn.Module
    scorer: object
    seconds: list[float]
    stages: list[dict[str, float]]
    mib: list[float]


def main_config(path: str, args: argparse.Namespace, clip: dict | None) -> Config:
    """A config with the flags' changes: no weights to fetch, a CLIP of random weights, other names."""
    cfg = read_config(path, args.cfg_options)
    if cfg.model.type != 'mmzeg.ZegFormer':
        raise ValueError(f'{path}: {cfg.model.type} has no stages to measure: give it as --beside')
    cfg.model.backbone.init_cfg = None
    cfg.model.fusion = dict(cfg.model.get('fusion') or {}, mode='full')
    head = cfg.model.decode_head
    if clip:
        # Of random weights a prompt says as much as eighty.
        head.classifier.update(text_encoder=clip, test_prompts='single')
        cfg.model.scorer.update(clip=clip, prompts='single')
    if args.classes:
        names = [f'thing {number}' for number in range(args.classes)]
        head.classifier.vocabulary = dict(classes=names, unseen=names[-max(1, args.classes // 10) :])
        head.classifier.pop('train_vocabulary', None)
    return cfg


def scorer_of(variant: str, field: dict) -> object:
    """The scorer of a variant."""
    if variant == 'one-pass':
        vision = MODELS.build(field['clip']).config['vision_cfg']
        transformer = isinstance(vision.get('layers', 12), int) and 'timm_model_name' not in vision
        return other_scorer(field, dict(type='mmzeg.CLIPMaskScorer' if transformer else 'mmzeg.CLIPDensePoolScorer'))
    scorer = MODELS.build(dict(field, **VARIANTS[variant]))
    return ReferenceScorer(scorer) if variant == 'reference' else scorer


def build(args: argparse.Namespace, clip: dict | None) -> list[Case]:
    """All rows, not yet measured."""
    cases = []
    for path in args.configs:
        cfg = main_config(path, args, clip)
        torch.manual_seed(args.seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.to(args.device).eval()
        for variant in args.variants:
            field = dict(cfg.model.scorer)
            if args.precision and variant != 'reference':
                field['clip'] = dict(field['clip'], precision=args.precision)
            scorer = scorer_of(variant, field)
            for empties in args.empties:
                cases.append(Case(Path(path).stem, variant, empties, model, scorer, [], [], []))
    for path in args.beside:
        cfg = get_config(path) if '::' in path else read_config(path)
        cfg.model.pretrained = None
        cfg.model.test_cfg = dict(mode='whole')
        torch.manual_seed(args.seed)
        model = MODELS.build(cfg.model).to(args.device).eval()
        cases.append(Case(Path(path.replace('::', '/')).stem, '', None, model, None, [], [], []))
    return cases


@torch.no_grad()
def segments_like(config: str, checkpoint: str, count: int) -> tuple[Tensor, Tensor]:
    """No-object probabilities (n, q) and mask logits (n, q, h, w) of a trained model on its first test pictures."""
    runner, loader = load(read_config(config), checkpoint, 'test')
    found = []
    for batch in loader:
        inputs = runner.model.data_preprocessor(batch, False)['inputs']
        features = runner.model.extract_feat(inputs)
        class_logits, mask_logits = (part[-1] for part in runner.model.decode_head(features, last_layer_only=True))
        found += list(zip(class_logits.softmax(-1)[..., -1], mask_logits, strict=True))
        if len(found) * mask_logits.shape[1] >= count:
            break
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


def changed_head(empties: int | None, like: tuple[Tensor, Tensor] | None) -> Callable:
    """What is done to a head's class logits (L, B, Q, C + 1) and mask logits (L, B, Q, h, w)."""

    def change(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        queries, (height, width) = mask_logits.shape[2], mask_logits.shape[-2:]
        if like:
            # The pictures stand side by side.
            no_object, masks = (part.to(mask_logits) for part in like)
            share = width // len(masks)
            masks = F.interpolate(masks, size=(height, share), mode='bilinear', align_corners=False)
            wide = [F.pad(m, (n * share, width - (n + 1) * share), value=-10.0) for n, m in enumerate(masks)]
            mask_logits = mask_logits.clone()
            mask_logits[:] = torch.cat(wide)[:queries]
            classes = class_logits[..., :-1]
            last = no_object.flatten()[:queries].logit(1e-6) + classes.logsumexp(-1)
            class_logits = torch.cat([classes, last[..., None]], -1)
        if empties:
            mask_logits = mask_logits.clone()
            mask_logits[:, :, :empties] = -10.0
        return class_logits, mask_logits

    return change


def functions_of(case: Case) -> dict[tuple[type, str], str]:
    """Methods whose calls are stages."""
    if case.scorer is None:
        return {}
    found = {
        (type(case.model.data_preprocessor), 'forward'): 'data',
        (ZegFormer, 'extract_feat'): 'backbone',
        (type(case.model.decode_head), 'forward'): 'head',
        (ScoreFusion, '__call__'): 'fusion',
        (ZegFormer, '_ask'): 'crops',
        (CLIP, 'encode_image'): 'CLIP',
    }
    if isinstance(case.scorer, OnePassScorer):
        found[type(case.scorer), '_encode'] = 'CLIP'
    pruning = getattr(case.scorer, 'pruning', None)
    if pruning is not None:
        found[type(pruning), '__call__'] = 'pruning'
    return found


def plain_features(model: ZegFormer, inputs: Tensor) -> tuple[Tensor, ...]:
    """Backbone maps of inputs as they come."""
    return model.extract_feat(inputs)


@contextmanager
def prepared(case: Case, change: Callable) -> Iterator[None]:
    """Let the model ask as the case says, about segments that are changed."""
    if case.scorer is None:
        yield
        return
    case.model.scorer = case.scorer
    own = case.model.test_cfg.get('labels_only', False)
    head, released = type(case.model.decode_head), case.variant == 'reference'
    # The released code makes the map of all classes, and masks of all layers from maps that lie plane by plane.
    case.model.test_cfg.labels_only = own and not released
    forward, features = head.forward, plain_features if released else ZegFormer._features

    def changed(self: nn.Module, *args: object, **fields: object) -> tuple[Tensor, Tensor]:
        return change(*forward(self, *args, **({} if released else fields)))

    try:
        with patch.object(head, 'forward', changed), patch.object(ZegFormer, '_features', features):
            yield
    finally:
        case.model.test_cfg.labels_only = own


@torch.inference_mode()
def measure(case: Case, picture: Tensor, device: torch.device, change: Callable) -> None:
    """Run a case once and note time, stages and memory."""
    height, width = picture.shape[-2:]
    meta = dict(ori_shape=(height, width), img_shape=(height, width), pad_shape=(height, width), img_path='random')
    sample = SegDataSample(metainfo=meta)
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width, dtype=torch.long))
    watch = Stopwatch(device)
    with prepared(case, change), watch.watch(functions_of(case)), PeakMemory(device) as memory, watch.stage('map'):
        case.model.test_step(dict(inputs=[picture], data_samples=[sample]))
    case.seconds.append(sum(watch.seconds.values()))
    case.stages.append(dict(watch.seconds))
    case.mib.append(memory.mib)


@torch.inference_mode()
def embed_names(case: Case, device: torch.device) -> str:
    """Have the text embeddings of a case's classes; what that took, in words."""
    classifier = case.model.decode_head.classifier
    with ExitStack() as stack:
        if isinstance(classifier.text_encoder, CLIP):
            # Not that its weights have to be loaded, nor what was kept for another config or at an earlier call.
            with classifier.text_encoder.on(device):
                pass
            empty = TextCache(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(patch.object(classifier.text_encoder, '_cache', empty))
        with PeakMemory(device) as memory:
            start = time.perf_counter()
            classifier.text_embeddings(training=False)
            seconds = time.perf_counter() - start
    return f'{case.config}: {len(classifier.vocabulary)} names to embed: {seconds:.1f} s, {memory.mib:.0f} MiB'


def figures(cases: list[Case]) -> list[dict]:
    """What was measured, as plain numbers; ratios are to the reference of the same round."""
    rows = []
    for case in cases:
        reference = next(
            (c for c in cases if (c.config, c.variant, c.empties) == (case.config, 'reference', case.empties)), None
        )
        ratios = [a / b for a, b in zip(reference.seconds, case.seconds, strict=True)] if reference else []
        rows.append(
            dict(
                config=case.config,
                variant=case.variant,
                empties=case.empties,
                seconds=median(case.seconds),
                fastest=min(case.seconds),
                slowest=max(case.seconds),
                images_per_second=1 / median(case.seconds),
                ratio=median(ratios) if ratios else None,
                mib=max(case.mib),
                stages={s: median(part.get(s, 0.0) for part in case.stages) for s in STAGES} if case.scorer else None,
            )
        )
    return rows


def table(rows: list[dict]) -> PrettyTable:
    """The figures as people read them."""
    drawn = PrettyTable(
        ['config', 'variant', 'empty', 's', 'range', 'image/s', 'x reference', 'peak MiB', *STAGES], align='r'
    )
    for row in rows:
        stages = row['stages']
        drawn.add_row(
            [
                row['config'],
                row['variant'],
                '' if row['empties'] is None else row['empties'],
                f'{row["seconds"]:.2f}',
                f'{row["fastest"]:.2f}-{row["slowest"]:.2f}',
                f'{row["images_per_second"]:.3g}',
                f'{row["ratio"]:.2f}' if row['ratio'] else '',
                f'{row["mib"]:.0f}',
                *(f'{stages[stage]:.2f}' if stages else '' for stage in STAGES),
            ]
        )
    return drawn


@contextmanager
def random_clip(model: str | None, seed: int) -> Iterator[dict | None]:
    """The config of a CLIP with random weights, in a file that is removed afterwards."""
    if model is None:
        yield None
        return
    if model not in open_clip.list_models():
        raise ValueError(f'--random-clip {model}: no open_clip architecture; see open_clip.list_models()')
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        state = open_clip.create_model(model, force_quick_gelu=False).state_dict()
        path = Path(folder, f'{model}.safetensors')
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        del state
        yield dict(type='mmzeg.CLIP', model=model, pretrained=str(path), cache_dir=folder)


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.repeats < 1:
        raise ValueError(f'--repeats must be 1 or more, got {args.repeats}')
    check_device(args.device)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    device = torch.device(args.device)
    with random_clip(args.random_clip, args.seed) as clip:
        cases = build(args, clip)
        like = None
        if args.like:
            queries = max(case.model.decode_head.query_embed.num_embeddings for case in cases if case.scorer)
            like = segments_like(*args.like, queries)
        picture = torch.randint(
            0, 256, (3, *args.image_size), dtype=torch.uint8, generator=torch.Generator().manual_seed(args.seed)
        )
        first = {case.config: case for case in reversed(cases) if case.scorer}
        print('\n'.join(embed_names(case, device) for case in first.values()), flush=True)
        for step, case in in_turns(cases, args.repeats):
            print(f'{step}/{args.repeats} {case.config} {case.variant} ...', file=sys.stderr, flush=True)
            measure(case, picture, device, changed_head(case.empties, like))
            if not step:
                case.seconds, case.stages, case.mib = [], [], []
    rows = figures(cases)
    print(
        f'{args.image_size[0]} x {args.image_size[1]}, {device}, {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}; medians of {args.repeats}\n{table(rows)}'
    )
    if args.json:
        write(args.json, rows)


if __name__ == '__main__':
    main()
