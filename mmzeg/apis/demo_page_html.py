"""Legend, explanation and class names of the demo page as HTML; class names are escaped."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from mmzeg.apis.drawing import percent
from mmzeg.apis.html_elements import html_table
from mmzeg.utils.palette import palette
from mmzeg.vocabulary import Vocabulary

MAX_LEGEND_ROWS = 30
MAX_NAME_LENGTH = 60
CSS = """
.mmzeg table, .mmzeg table * { border: 0; }
.mmzeg table { border-collapse: collapse; width: 100%; margin: 0 0 12px; font-size: 14px; }
.mmzeg caption { text-align: left; font-weight: 600; padding: 4px 0; }
.mmzeg table th, .mmzeg table td { border-bottom: 1px solid var(--border-color-primary);
  padding: 3px 10px 3px 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.mmzeg table .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.mmzeg .swatch { display: inline-block; width: 1em; height: 1em; margin-right: 6px; vertical-align: -2px;
  border: 1px solid #0008 !important; }
.mmzeg .chips { max-height: 9.5em; overflow-y: auto; line-height: 2; }
.mmzeg .chip { border: 1px solid var(--border-color-primary); border-radius: 9px; padding: 0 7px;
  display: inline-block; max-width: 100%; line-height: 1.6; }
.mmzeg .unseen { border: 1.5px dashed currentColor; font-weight: 600; }
.mmzeg .error { border-left: 4px solid #c00; padding: 6px 10px; background: #c001; overflow-wrap: anywhere; }
"""


def legend_table(vocabulary: Vocabulary, areas: dict[str, np.ndarray]) -> str:
    """Return a table of the classes with pixels in any result: colour, name, and area per result.

    Args:
        vocabulary (Vocabulary): C classes.
        areas (dict[str, np.ndarray]): By fusion mode, the area (C,) of every class as a fraction of the image, 0..1.
    """
    colours = palette(len(vocabulary))
    stacked_areas = np.stack(list(areas.values()))
    by_area = np.argsort(-stacked_areas.max(0), kind='stable')
    labels = [label for label in by_area if stacked_areas[:, label].any()]
    rows = []
    for label in labels[:MAX_LEGEND_ROWS]:
        colour = '#{:02x}{:02x}{:02x}'.format(*colours[label])
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        chip = class_chip(vocabulary.names[label], vocabulary.is_seen(vocabulary.names[label]))
        rows.append([swatch + chip, *(escape(percent(area)) for area in stacked_areas[:, label])])
    table = html_table(['class', *areas], rows, caption='Area in the image', numeric=True)
    if len(labels) > MAX_LEGEND_ROWS:
        table += f'<p>and {len(labels) - MAX_LEGEND_ROWS} more</p>'
    return table


def explanation_html(explanation: dict, vocabulary: Vocabulary, mode: str) -> str:
    """Return the result of ``Session.explain_pixel`` as a paragraph and two tables."""
    # One column per branch that has scores.
    branches = {'seg': 'text classifier (seg)', 'img': 'CLIP (img)', 'fused': f'this mode ({mode})'}
    branches = {branch: title for branch, title in branches.items() if explanation[branch] is not None}
    rankings = zip(*(explanation[branch] for branch in branches), strict=True)
    segment_rows = [[f'{escape(name)} <b>{score:.3f}</b>' for name, score in rank] for rank in rankings]
    runner_up_rows = [
        [class_chip(name, vocabulary.is_seen(name)), f'{score:.3f}'] for name, score in explanation['runners_up']
    ]
    name = explanation['name']
    text = (
        f'Mode {mode}, pixel ({explanation["x"]}, {explanation["y"]}): score {explanation["score"]:.3f}, calibrated. '
        f'The pixel belongs to segment {explanation["query"]}, outlined in the image. The segment covers '
        f'{escape(percent(explanation["area"]))} of the image; its mask is {explanation["mask"]:.2f} at this pixel.'
    )
    return (
        f'<h3>{class_chip(name, vocabulary.is_seen(name))}</h3><p>{text}</p>'
        + html_table(list(branches.values()), segment_rows, caption='Scores of the segment')
        + html_table(['class', 'calibrated score'], runner_up_rows, caption='Runners-up at the pixel', numeric=True)
    )


def class_chips(names: Sequence[str], train_names: Sequence[str]) -> str:
    """Return the parsed class names, with a star for those that the model was not trained on."""
    unseen = set(names).difference(train_names)
    count = f'{len(names)} classes, {len(unseen)} of them unseen (not among the classes of the training).'
    chips = ' '.join(class_chip(name, name not in unseen) for name in names)
    return f'<div class="chips">{count}<br>{chips}</div>'


def class_chip(name: str, seen: bool) -> str:
    """Return a class name, with a star if it is unseen."""
    short = name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + '…'
    if seen:
        return f'<span class="chip">{escape(short)}</span>'
    return f'<span class="chip unseen">{escape(short)} *</span>'


def error_message(error: Exception | str, path: str | None = None) -> str:
    """Return an error in one line, without the folder in which the server keeps the file ``path``."""
    line = ' '.join(str(error).split())
    if path is not None:
        line = line.replace(path, Path(path).name)
    return f'<div class="error" role="alert">{escape(line)}</div>'
