"""Time and memory of a training iteration: configs and ways to train them, interleaved in one run.

python tools/analysis_tools/benchmark_training.py configs/zegformer_r50_coco.py \
    --beside mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py
"""

import argparse
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from prettytable import PrettyTable
from torch import nn

from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import check_device, one_line_errors

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import main_config, random_clip  # noqa: E402
from measuring import PeakMemory, Stopwatch, in_turns  # noqa: E402
from sweep import write  # noqa: E402

WAYS = ('plain', 'checkpointing', 'amp', 'compile')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', help='config files of ZegFormers; weights are random')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=['plain'], help='how these are trained')
    parser.add_argument('--beside', nargs='+', default=[], help="other segmentors' configs, mmseg::... for mmseg's own")
    parser.add_argument('--crop', nargs=2, type=int, default=[512, 512], metavar=('H', 'W'), help='in pixels')
    parser.add_argument('--batch', type=int, default=2, help='pictures an iteration')
    parser.add_argument('--classes', type=int, help="so many made-up names in place of the config's")
    parser.add_argument('--present', type=int, default=6, help='classes in a picture')
    parser.add_argument('--random-clip', metavar='MODEL', help='an architecture of open_clip, with random weights')
    parser.add_argument('--repeats', type=int, default=3, help='after one for warming up')
    parser.add_argument('--seed', type=int, default=0, help='of weights, pictures and labels')
    parser.add_argument('--device', default=get_device(), help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='file of all figures')
    parser.set_defaults(cfg_options=None)
    return parser.parse_args()


@dataclass
class Case:
    """One row: a model, how it is trained, and what was measured."""

    config: str
    way: str
    model: nn.Module
    seconds: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)


def build(args: argparse.Namespace, clip: dict | None) -> list[Case]:
    """All rows, not yet measured."""
    cases = []
    for path in args.configs:
        cfg = main_config(path, args, clip)
        for way in args.ways:
            checkpointing = way == 'checkpointing'
            cfg.model.decode_head.with_cp = checkpointing
            if checkpointing:
                cfg.model.backbone.with_cp = True
            cases.append(case_of(path, way, cfg, args))
            if checkpointing:
                cfg.model.backbone.pop('with_cp')
    for path in args.beside:
        cfg = get_config(path) if '::' in path else read_config(path)
        cfg.model.backbone.init_cfg = None
        cases.append(case_of(path.replace('::', '/'), '', cfg, args))
    return cases


def case_of(path: str, way: str, cfg: Config, args: argparse.Namespace) -> Case:
    """A row: the model on its device, in training mode."""
    torch.manual_seed(args.seed)
    if cfg.model.data_preprocessor.get('size'):
        cfg.model.data_preprocessor.size = tuple(args.crop)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(args.device).train()
    if way == 'compile':
        # Of the head, matching and the text side are no graph.
        for module in (model.backbone, model.decode_head.pixel_decoder, model.decode_head.transformer_decoder):
            module.forward = torch.compile(module.forward)
    return Case(Path(path).stem, way, model)


def batch_of(args: argparse.Namespace) -> dict:
    """Noise, and label maps of as many classes as are asked for, in blocks."""
    generator = torch.Generator().manual_seed(args.seed)
    height, width = args.crop
    samples = []
    for _ in range(args.batch):
        blocks = torch.randint(0, args.present, (1, -(-height // 64), -(-width // 64)), generator=generator)
        labels = blocks.repeat_interleave(64, 1).repeat_interleave(64, 2)[:, :height, :width]
        sample = SegDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width), img_path='random'))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    pictures = torch.randint(0, 256, (args.batch, 3, height, width), dtype=torch.uint8, generator=generator)
    return dict(inputs=list(pictures), data_samples=samples)


def measure(case: Case, batch: dict, device: torch.device) -> None:
    """One iteration without the optimizer's step: forward, losses, backward."""
    watch = Stopwatch(device)
    amp = torch.autocast(device.type, dtype=torch.bfloat16) if case.way == 'amp' else nullcontext()
    with PeakMemory(device) as memory:
        with watch.stage('forward and losses'), amp:
            data = case.model.data_preprocessor(batch, True)
            loss = case.model.parse_losses(case.model.loss(data['inputs'], data['data_samples']))[0]
        with watch.stage('backward'):
            loss.backward()
    if not torch.isfinite(loss):
        raise FloatingPointError(f'{case.config} {case.way}: the loss is not finite')
    case.model.zero_grad(set_to_none=True)
    case.seconds.append(sum(watch.seconds.values()))
    case.parts.append(dict(watch.seconds))
    case.mib.append(memory.mib)


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
        cases, batch = build(args, clip), batch_of(args)
        for step, case in in_turns(cases, args.repeats):
            print(f'{step}/{args.repeats} {case.config} {case.way} ...', file=sys.stderr, flush=True)
            measure(case, batch, device)
            if not step:
                case.seconds, case.parts, case.mib = [], [], []
    base = cases[-1] if args.beside else cases[0]
    table = PrettyTable(
        ['config', 'way', 's', 'range', 'forward', 'backward', 'peak MiB', f'x {base.config}'], align='r'
    )
    rows = []
    for case in cases:
        forward, backward = (median(part[name] for part in case.parts) for name in ('forward and losses', 'backward'))
        row = dict(
            config=case.config,
            way=case.way,
            seconds=median(case.seconds),
            fastest=min(case.seconds),
            slowest=max(case.seconds),
            forward=forward,
            backward=backward,
            mib=max(case.mib),
            ratio=median(a / b for a, b in zip(base.seconds, case.seconds, strict=True)),
        )
        rows.append(row)
        cells = [
            f'{row["seconds"]:.2f}',
            f'{row["fastest"]:.2f}-{row["slowest"]:.2f}',
            f'{forward:.2f}',
            f'{backward:.2f}',
        ]
        table.add_row([case.config, case.way, *cells, f'{row["mib"]:.0f}', f'{row["ratio"]:.2f}'])
    print(
        f'{args.batch} x {args.crop[0]} x {args.crop[1]}, {device}, {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}; medians of {args.repeats}\n{table}'
    )
    if args.json:
        write(args.json, rows)


if __name__ == '__main__':
    main()
