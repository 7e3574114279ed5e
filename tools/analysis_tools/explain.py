"""One page of how a result came about: every segment's mask, what CLIP saw of it, and what was said of it.

python tools/analysis_tools/explain.py CONFIG CHECKPOINT IMAGE --out explained.html
"""

import argparse
import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from mmengine.config import DictAction
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.class_names import parse_classes_option, parse_class_names
from mmzeg.apis.drawing import overlay
from mmzeg.apis.segment_predictions import EncodedImage, SegmentPredictions
from mmzeg.apis.image_reading import read_image
from mmzeg.datasets.transforms.load_labels import read_label_map
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers import CLIPCropScorer
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.config_files import read_config
from mmzeg.utils.preflight import one_line_errors

KINDS = {
    'calibration': 'right without calibration (gamma 0)',
    'name': 'in a segment that lies mostly on the right class, named otherwise',
    'segment': 'in a segment that lies mostly on another class',
}
STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
img { max-width: 100% } td img { width: 9em; image-rendering: auto } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ccc; padding: .5em; text-align: left; vertical-align: top }
ol { margin: 0; padding-left: 1.4em } .wide { overflow-x: auto } b.unseen::after { content: "*" }"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file of a ZegFormer')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('image', help='a picture')
    parser.add_argument('--out', type=Path, default=Path('explained.html'), help='HTML file to write')
    parser.add_argument('--classes', help='"cat, kitten; dog", or a file of names; defaults to the config\'s')
    parser.add_argument(
        '--seen', type=parse_class_names, help='classes scored as seen; by default those of training, by name'
    )
    parser.add_argument('--pixel', type=int, nargs=2, metavar=('X', 'Y'), help='a column and a row to explain')
    parser.add_argument('--labels', type=Path, help='true label map (PNG of class indices, 255: none): errors by kind')
    parser.add_argument('--mode', help="seg, img, full or unseen; defaults to the config's")
    parser.add_argument('--lam', type=float, help='balance of the two opinions, 0..1')
    parser.add_argument('--gamma', type=float, help='taken from the scores of seen classes')
    parser.add_argument('--device', help='cuda:0, cpu; by default a GPU if there is one')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='change fields: key=value ...')
    return parser.parse_args()


def errors_by_kind(opinions: SegmentPredictions, fusion: ScoreFusion, truth: np.ndarray) -> dict[str, float]:
    """Percent of the labelled pixels that are wrong, by the first of ``KINDS`` that holds.

    Raises:
        ValueError: A label map of another size, without a label, or with a value that is no class.
    """
    labels, parts = opinions.read(fusion, masks=True)
    labels = labels.cpu().numpy()
    if truth.shape != labels.shape:
        raise ValueError(f'the label map is of {truth.shape[::-1]} pixels and the picture of {labels.shape[::-1]}')
    labelled = truth != 255
    if not labelled.any() or truth[labelled].max() >= len(opinions.vocabulary):
        raise ValueError(f'label values must be 0 to {len(opinions.vocabulary) - 1}, or 255 for none, and some a class')
    plain = opinions.label_map(ScoreFusion(fusion.mode, fusion.lam, 0.0)).cpu().numpy()
    mostly = np.full_like(labels, -1)
    for part in parts:
        inside = part['mask'] & labelled
        if inside.any():
            mostly[inside] = np.bincount(truth[inside]).argmax()
    wrong = labelled & (labels != truth)
    found = dict(calibration=wrong & (plain == truth))
    found['name'] = wrong & ~found['calibration'] & (mostly == truth)
    found['segment'] = wrong & ~found['calibration'] & ~found['name']
    return {kind: 100 * float(pixels.sum() / labelled.sum()) for kind, pixels in found.items()}


def crops(scorer: object, look: EncodedImage, queries: list[int]) -> list[np.ndarray]:
    """(h, w, 3) uint8 RGB: what a ``CLIPCropScorer`` shows CLIP of some segments, in its first style."""
    image = scorer.normalize(look.image, look.geometry.valid)
    masks = mask_probabilities(look.mask_logits[queries], image.shape[-2:])
    shown = crop_segments(image, masks, scorer.clip.image_size, scorer.styles[0]).permute(0, 2, 3, 1)
    shown = 255 * (shown * shown.new_tensor(scorer.clip.image_std) + shown.new_tensor(scorer.clip.image_mean))
    return list(shown.round().clamp(0, 255).byte().cpu().numpy())


def as_html(picture: np.ndarray, alt: str) -> str:
    """A picture (H, W, 3) or (H, W) uint8 inside the page, at most 1280 pixels wide or high."""
    image, content = Image.fromarray(picture), BytesIO()
    image.thumbnail((1280, 1280))
    image.save(content, 'PNG')
    text = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{text}">'


def ranked(rows: Sequence[tuple[str, float]] | None) -> str:
    """Names and scores as a list."""
    if rows is None:
        return 'not asked'
    return f'<ol>{"".join(f"<li>{escape(name)} {score:.3f}</li>" for name, score in rows)}</ol>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML."""
    lines = [''.join(f'<td>{cell}</td>' for cell in row) for row in rows]
    head = ''.join(f'<th>{escape(name)}</th>' for name in header)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def segments_table(parts: list[dict], opinions: SegmentPredictions, fusion: ScoreFusion, shown: dict | None) -> str:
    """A row for every segment that won pixels, the largest first."""
    rows = []
    for part in parts:
        said = opinions.of_query(fusion, part['query'])
        unseen = '' if opinions.vocabulary.is_seen(part['name']) else ' class="unseen"'
        row = [f'<b{unseen}>{escape(part["name"])}</b><br>score {part["score"]:.3f}<br>{part["area"]} pixels']
        row[0] += f'<br>query {part["query"]}'
        row.append(as_html((255 * part['mask']).astype(np.uint8), f'where {part["name"]} won'))
        if shown is not None:
            row.append(as_html(shown[part['query']], 'the sub-image'))
        rows.append([*row, *(ranked(said[name]) for name in ('seg', 'img', 'fused'))])
    seen_by_clip = [] if shown is None else ['what CLIP saw']
    return table(['won', 'where', *seen_by_clip, 'p: text alone', "p': CLIP's look", 'fused'], rows)


def page(args: argparse.Namespace, inferencer: ZeroShotInferencer) -> str:
    """The whole page."""
    picture, look = read_image(args.image), inferencer.encode(args.image)
    opinions = inferencer.classify(look, **parse_classes_option(args.classes, args.seen))
    fusion = inferencer.fusion(args.mode, args.lam, args.gamma)
    labels, parts = opinions.read(fusion, masks=True)
    scorer, shown = inferencer.model.scorer, None
    if isinstance(scorer, CLIPCropScorer) and fusion.needs_scorer:
        queries = sorted({part['query'] for part in parts})
        shown = dict(zip(queries, crops(scorer, look, queries), strict=True))
    drawn = overlay(picture, labels.cpu().numpy(), opinions.vocabulary.names, opinions.vocabulary.unseen)
    setting = f'mode {fusion.mode}, lambda {fusion.lam:.3g}, gamma {fusion.gamma:.3g}'
    content = [f'<h1>{escape(Path(args.image).name)}</h1><p>{setting}. Unseen classes have a star.</p>']
    content.append(as_html(drawn, 'the label map over the picture'))
    if args.labels:
        truth = read_label_map(str(args.labels), args.labels.read_bytes(), 255)
        errors = errors_by_kind(opinions, fusion, truth)
        rows = [[kind, KINDS[kind], f'{share:.1f} %'] for kind, share in errors.items()]
        content.append('<h2>Errors</h2>' + table(['kind', 'a wrong pixel', 'of labelled pixels'], rows))
    if args.pixel:
        found = opinions.explain(fusion, *args.pixel)
        rows = [[f'{escape(found["name"])} {found["score"]:.3f}', ranked(found['runners_up']), str(found['query'])]]
        rows[0] += [f'{found["mask"]:.3f}', *(ranked(found[name]) for name in ('seg', 'img', 'fused'))]
        header = ['won', 'runners-up', 'query', 'its mask here', 'p: text alone', "p': CLIP's look", 'fused']
        content.append(f'<h2>Pixel {args.pixel[0]}, {args.pixel[1]}</h2>' + table(header, rows))
    content.append('<h2>Segments</h2>' + segments_table(parts, opinions, fusion, shown))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    title = f'<title>{escape(Path(args.image).name)} explained</title>'
    return f'<!doctype html><html lang="en">{head}{title}<style>{STYLE}</style>{"".join(content)}</html>'


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    if args.labels and not args.labels.is_file():
        raise FileNotFoundError(f'{args.labels}: no such label map')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = page(args, ZeroShotInferencer(cfg, args.checkpoint, args.device))
    atomic_write(args.out, lambda partial: partial.write_text(text, encoding='utf-8'))
    print(f'{args.out}: open it in a browser')


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
