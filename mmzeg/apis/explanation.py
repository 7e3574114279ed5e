"""Explain a prediction in one HTML file: masks, crops, and the scores of each branch."""

from collections.abc import Sequence
from html import escape

import numpy as np
import torch

from mmzeg.apis.drawing import overlay
from mmzeg.apis.encoded_image import EncodedImage
from mmzeg.apis.html_elements import html_image, html_table
from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.apis.pixel_errors import ERROR_CAUSES, errors_by_cause
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers import CLIPCropScorer
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities

BRANCHES = {'seg': 'p: text classifier', 'img': "p': CLIP", 'fused': 'fused'}
STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
img { max-width: 100% } td img { width: 9em; image-rendering: auto } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ccc; padding: .5em; text-align: left; vertical-align: top }
ol { margin: 0; padding-left: 1.4em } .wide { overflow-x: auto } b.unseen::after { content: "*" }"""


@torch.no_grad()
def explain_image(
    inferencer: ZeroShotInferencer,
    image: np.ndarray,
    title: str,
    fusion: ScoreFusion,
    classes: Sequence[str] | None = None,
    seen: Sequence[str] | None = None,
    pixel: tuple[int, int] | None = None,
    annotation: np.ndarray | None = None,
    file: str | None = None,
) -> str:
    """Explain the prediction of one image as an HTML page that needs no other file.

    Args:
        inferencer (ZeroShotInferencer): The model.
        image (np.ndarray): (H, W, 3) uint8 RGB.
        title (str): Of the page.
        fusion (ScoreFusion): Mode, lambda and gamma.
        classes, seen: As in ``ZeroShotInferencer``.
        pixel (tuple[int, int], optional): Column x and row y of a pixel to explain.
        annotation (np.ndarray, optional): (H, W) ground truth, for errors by cause; see ``errors_by_cause``.
        file (str, optional): The file of the image: ``mmzeg.FileProposals`` finds masks by it.

    Raises:
        ValueError: A pixel outside the image, bad classes, or a label map that does not fit the image.
    """
    encoded = inferencer.encode(np.ascontiguousarray(image[..., ::-1]), file)
    predictions = inferencer.classify(encoded, classes, seen)
    labels, segments = predictions.label_map_and_segments(fusion, masks=True)
    vocabulary = predictions.vocabulary
    # Title, settings and the drawing of the label map.
    settings = f'mode {fusion.mode}, lambda {fusion.lam:.3g}, gamma {fusion.gamma:.3g}'
    drawing = overlay(image, labels.cpu().numpy(), vocabulary.names, vocabulary.unseen)
    sections = [f'<h1>{escape(title)}</h1><p>{settings}. Unseen classes have a star.</p>']
    sections.append(html_image(drawing, 'the label map over the image'))
    if annotation is not None:
        sections.append('<h2>Errors</h2>' + _error_table(errors_by_cause(predictions, fusion, annotation)))
    if pixel is not None:
        x, y = pixel
        sections.append(f'<h2>Pixel {x}, {y}</h2>' + _pixel_table(predictions.explain_pixel(fusion, x, y)))
    # Crops, if the scorer makes them.
    scorer = inferencer.model.scorer
    crops = None
    if isinstance(scorer, CLIPCropScorer) and fusion.needs_scorer:
        queries = sorted({segment['query'] for segment in segments})
        crops = dict(zip(queries, clip_crops(scorer, encoded, queries), strict=True))
    sections.append('<h2>Segments</h2>' + _segment_table(segments, predictions, fusion, crops))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f'<title>{escape(title)} explained</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{"".join(sections)}</html>'


def clip_crops(scorer: CLIPCropScorer, encoded: EncodedImage, queries: list[int]) -> list[np.ndarray]:
    """Return the crops (h, w, 3) uint8 RGB of some queries' segments in the scorer's first crop mode."""
    image = scorer.normalize(encoded.image, encoded.sizes.valid)
    masks = mask_probabilities(encoded.mask_logits[queries], image.shape[-2:])
    crops = crop_segments(image, masks, scorer.clip.image_size, scorer.crop_modes[0]).permute(0, 2, 3, 1)
    # Undo CLIP's normalization.
    crops = 255 * (crops * crops.new_tensor(scorer.clip.image_std) + crops.new_tensor(scorer.clip.image_mean))
    return list(crops.round().clamp(0, 255).byte().cpu().numpy())


def _error_table(errors: dict[str, float]) -> str:
    rows = [[cause, ERROR_CAUSES[cause], f'{percentage:.1f} %'] for cause, percentage in errors.items()]
    return _scrolling(html_table(['cause', 'a wrong pixel', 'of annotated pixels'], rows))


def _pixel_table(explanation: dict) -> str:
    """Return the table of what ``SegmentPredictions.explain_pixel`` returns."""
    row = [
        f'{escape(explanation["name"])} {explanation["score"]:.3f}',
        _ranking(explanation['runners_up']),
        str(explanation['query']),
        f'{explanation["mask"]:.3f}',
        *(_ranking(explanation[branch]) for branch in BRANCHES),
    ]
    return _scrolling(html_table(['class', 'runners-up', 'query', 'its mask here', *BRANCHES.values()], [row]))


def _segment_table(
    segments: list[dict], predictions: SegmentPredictions, fusion: ScoreFusion, crops: dict[int, np.ndarray] | None
) -> str:
    """Return a table with a row per segment, the largest first.

    Args:
        segments (list[dict]): Of ``SegmentPredictions.label_map_and_segments``, with masks.
        predictions (SegmentPredictions): Of the image.
        fusion (ScoreFusion): Mode, lambda and gamma.
        crops (dict[int, np.ndarray], optional): Crops (h, w, 3) uint8 RGB by query.
    """
    rows = []
    for segment in segments:
        name = segment['name']
        unseen = '' if predictions.vocabulary.is_seen(name) else ' class="unseen"'
        lines = [
            f'<b{unseen}>{escape(name)}</b>',
            f'score {segment["score"]:.3f}',
            f'{segment["area"]} pixels',
            f'query {segment["query"]}',
        ]
        row = ['<br>'.join(lines), html_image((255 * segment['mask']).astype(np.uint8), f'the mask of {name}')]
        if crops is not None:
            row.append(html_image(crops[segment['query']], 'the crop'))
        rankings = predictions.explain_query(fusion, segment['query'])
        rows.append([*row, *(_ranking(rankings[branch]) for branch in BRANCHES)])
    crop_header = [] if crops is None else ['crop for CLIP']
    return _scrolling(html_table(['class', 'mask', *crop_header, *BRANCHES.values()], rows))


def _ranking(ranking: Sequence[tuple[str, float]] | None) -> str:
    """Return class names and scores as an HTML list."""
    if ranking is None:
        return 'no CLIP logits'
    return f'<ol>{"".join(f"<li>{escape(name)} {score:.3f}</li>" for name, score in ranking)}</ol>'


def _scrolling(table: str) -> str:
    return f'<div class="wide">{table}</div>'
