"""Tables and marks of the page as HTML. Class names are text in it, whatever they are."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from mmzeg.apis.drawing import palette, percent
from mmzeg.vocabulary import Vocabulary

LEGEND_ROWS, NAME_LENGTH = 30, 60
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


def legend(vocabulary: Vocabulary, shares: dict[str, np.ndarray]) -> str:
    """The classes that won somewhere: colour, name, and share of the picture (C,), 0..1, in every mode."""
    colours, stacked = palette(len(vocabulary)), np.stack(list(shares.values()))
    found = [label for label in np.argsort(-stacked.max(0), kind='stable') if stacked[:, label].any()]
    rows = []
    for label in found[:LEGEND_ROWS]:
        colour = '#{:02x}{:02x}{:02x}'.format(*colours[label])
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        name = _mark(vocabulary.names[label], vocabulary)
        rows.append([swatch + name, *(escape(percent(share)) for share in stacked[:, label])])
    left = f'<p>and {len(found) - LEGEND_ROWS} more</p>' if len(found) > LEGEND_ROWS else ''
    return table('Share of the picture', ['class', *shares], rows) + left


def explanation(found: dict, vocabulary: Vocabulary, mode: str) -> str:
    """What ``Session.explain`` says of a pixel."""
    lists = {'text (seg)': found['seg'], 'CLIP (img)': found['img'], f'this mode ({mode})': found['fused']}
    lists = {head: names for head, names in lists.items() if names is not None}
    opinions = [
        [f'{escape(name)} <b>{score:.3f}</b>' for name, score in line] for line in zip(*lists.values(), strict=True)
    ]
    runners = [[_mark(name, vocabulary), f'{score:.3f}'] for name, score in found['runners_up']]
    return (
        f'<h3>{_mark(found["name"], vocabulary)}</h3>'
        f'<p>Mode {mode}, pixel ({found["x"]}, {found["y"]}): score {found["score"]:.3f}, calibrated. It belongs '
        f'to segment {found["query"]}, outlined, which covers {escape(percent(found["share"]))} of the picture '
        f'and whose mask is {found["mask"]:.2f} here.</p>'
        + table('SegmentPredictions on the segment', list(lists), opinions, numbers=False)
        + table('Runners-up of the pixel', ['class', 'score, calibrated'], runners)
    )


def chips(names: Sequence[str], trained: Sequence[str]) -> str:
    """Names as they are understood; those that the model was not trained on are marked."""
    unseen = set(names).difference(trained)
    count = f'{len(names)} classes, {len(unseen)} of them unseen, that is, not among the classes of training.'
    return f'<div class="chips">{count}<br>{" ".join(marked(name, name not in unseen) for name in names)}</div>'


def marked(name: str, seen: bool) -> str:
    """A class name, with a star if it is unseen."""
    short = name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + '…'
    return f'<span class="chip{"" if seen else " unseen"}">{escape(short)}{"" if seen else " *"}</span>'


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of cells that are HTML already; with ``numbers`` all columns but the first are set to the right."""
    kinds = [' class="number"' if numbers and place else '' for place in range(len(heads))]
    top = ''.join(f'<th scope="col"{kind}>{escape(head)}</th>' for kind, head in zip(kinds, heads, strict=True))
    body = ''.join(
        f'<tr>{"".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))}</tr>' for row in rows
    )
    return f'<table><caption>{escape(caption)}</caption><tr>{top}</tr>{body}</table>'


def problem(error: Exception | str, path: str | None = None) -> str:
    """One line of what is wrong, without the folder in which the server keeps the file ``path``."""
    line = ' '.join(str(error).split())
    line = line if path is None else line.replace(path, Path(path).name)
    return f'<div class="error" role="alert">{escape(line)}</div>'


def _mark(name: str, vocabulary: Vocabulary) -> str:
    return marked(name, vocabulary.is_seen(name))
