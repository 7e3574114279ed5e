"""The review sheet as HTML; class names, file names and messages are escaped."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mmzeg.apis.drawing import percent
from mmzeg.apis.html_elements import data_uri, html_table
from mmzeg.utils.palette import palette

if TYPE_CHECKING:
    from mmzeg.labelling.review import ClassReview, Example, Review

# Rows of the lists of images that have no label map or no thumbnail.
MAX_LISTED = 200
CSS = Path(__file__).with_name('review.css').read_text(encoding='utf-8')
SCRIPT = Path(__file__).with_name('review.js').read_text(encoding='utf-8')
# A browser refuses every request, and every script but the sheet's.
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'"
ORDERS = {
    'margin': 'least certain first',
    'share': 'most pixels first',
    'index': 'order of the class list',
}
HELP = """<p>An example shows one class in one image: pixels of the class are in colour, all others in dark grey. The
<b>margin</b> of a pixel is the score of its class minus the score of the next best class: at 1 the model is certain, at
0 it cannot tell the two apart. Below an example: its mean margin, and the part of the image that the class covers.</p>
<ul><li><b>Masks on other things</b>: the name means something else to the model. Choose another name, or add a synonym
("sofa, couch").</li>
<li><b>Low margins on the right things</b>: another class has nearly the same name. Join both, or choose narrower
names.</li>
<li><b>No pixels</b>: other names fit better everywhere. Choose another name, or remove it.</li>
<li><b>Single wrong images</b>: click the example to mark its image, then export the list. Marks stay in this
browser.</li></ul>"""


def review_html(
    review: 'Review',
    settings: Mapping,
    thumbnails: Mapping[tuple[str, int], bytes],
    problems: Mapping[str, str],
    key: str,
) -> str:
    """Return the review sheet, one HTML page that needs no other file.

    Args:
        review (Review): Summary and examples of each class.
        settings (Mapping): Content of ``settings.json``.
        thumbnails (Mapping[tuple[str, int], bytes]): JPEG files of the examples, by file and class.
        problems (Mapping[str, str]): By file, why an example has no thumbnail.
        key (str): Browsers keep marks under it.
    """
    # Classes with pixels, the least certain first.
    present = [entry for entry in review.classes if entry.num_images]
    present.sort(key=lambda entry: (entry.margin, entry.label))
    colours = palette(len(review.classes))
    swatches = {entry.label: _swatch(colours[entry.label]) for entry in present}
    examples = [_class_section(entry, swatches[entry.label], thumbnails) for entry in present]
    body = [
        '<header><h1>Review of the labels</h1>',
        _summary(review, settings),
        f'<details open><summary>How to read this sheet</summary>{HELP}</details>',
        _error_list('Images without a label map', review.errors),
        _error_list('Images that cannot be read any more', sorted(problems.items())),
        '</header>',
        _toolbar(),
        '<main><nav aria-label="Classes" tabindex="0">',
        _class_table(review, present, swatches),
        '</nav><div id="classes">',
        *examples,
        '</div></main>',
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Review of the labels</title>'
        f'<style>{CSS}</style></head>\n<body data-key="{escape(key)}">\n'
        + '\n'.join(body)
        + f'\n<script>{SCRIPT}</script></body></html>\n'
    )


def _summary(review: 'Review', settings: Mapping) -> str:
    """Return numbers of all images, and the settings without class list and config."""
    num_present = sum(entry.num_images > 0 for entry in review.classes)
    numbers = {
        'images labelled': f'{review.num_images:,}',
        'images without a label map': f'{len(review.errors):,}',
        'classes with pixels': f'{num_present} of {len(review.classes)}',
        'pixels ignored': percent(review.ignored),
        'mean margin': '-' if review.margin is None else f'{review.margin:.2f}',
    }
    tiles = ''.join(f'<div><dt>{title}</dt><dd>{escape(value)}</dd></div>' for title, value in numbers.items())
    rows = [
        [escape(name), escape(value if isinstance(value, str) else json.dumps(value))]
        for name, value in settings.items()
        if name not in ('classes', 'seen', 'config')
    ]
    table = html_table(['setting', 'value'], rows)
    return f'<dl class="numbers">{tiles}</dl><details><summary>Settings of the labelling</summary>{table}</details>'


def _toolbar() -> str:
    """Return the bar that stays at the top: marks, export, and the order of the classes."""
    options = ''.join(f'<option value="{value}">{title}</option>' for value, title in ORDERS.items())
    return (
        '<div id="toolbar">'
        '<details id="marked"><summary><span id="count" role="status">0 images marked</span></summary>'
        '<div><ul></ul><button type="button" id="clear">Remove all marks</button></div></details>'
        '<button type="button" id="export">Export the list</button>'
        f'<label>Classes: <select id="order" autocomplete="off">{options}</select></label>'
        '<span id="warning" role="alert"></span></div>'
    )


def _class_table(review: 'Review', present: Sequence['ClassReview'], swatches: Mapping[int, str]) -> str:
    """Return a table of the classes with pixels, which links to their examples, and the names of all others."""
    rows = [
        [
            f'<a href="#class-{entry.label}">{swatches[entry.label]}{escape(entry.name)}</a>',
            'seen' if entry.seen else '<b>unseen</b>',
            escape(percent(entry.fraction)),
            f'{entry.num_images:,}',
            _margin_bar(entry.margin),
        ]
        for entry in present
    ]
    table = html_table(['class', 'training', 'pixels', 'images', 'margin'], rows, caption='Classes', numeric=True)
    absent = [entry for entry in review.classes if not entry.num_images]
    if not absent:
        return table
    items = ''.join(f'<li>{escape(entry.name)}{"" if entry.seen else " <b>unseen</b>"}</li>' for entry in absent)
    return f'<section id="absent"><h2>No pixels: {len(absent)}</h2><ul>{items}</ul></section>{table}'


def _class_section(entry: 'ClassReview', swatch: str, thumbnails: Mapping[tuple[str, int], bytes]) -> str:
    """Return a class with its least and its most certain examples."""
    images = 'image' if entry.num_images == 1 else 'images'
    facts = (
        f'{"seen" if entry.seen else "<b>unseen</b>"} · {escape(percent(entry.fraction))} of the pixels · in '
        f'{entry.num_images:,} {images} · mean margin {_margin_bar(entry.margin)}'
    )
    groups = []
    for title, examples in (('Least certain', entry.least_certain), ('Most certain', entry.most_certain)):
        figures = [
            _example(example, entry.name, thumbnails[example.file, entry.label])
            for example in examples
            if (example.file, entry.label) in thumbnails
        ]
        if figures:
            groups.append(f'<div><h3>{title}</h3><div class="examples">{"".join(figures)}</div></div>')
    if not groups:
        groups = ['<p>No example could be read.</p>']
    return (
        f'<section id="class-{entry.label}" data-index="{entry.label}" data-share="{entry.fraction}" '
        f'data-margin="{entry.margin}"><h2>{swatch}{escape(entry.name)}</h2><p>{facts}</p>'
        f'<div class="groups">{"".join(groups)}</div></section>'
    )


def _example(example: 'Example', name: str, thumbnail: bytes) -> str:
    """Return a thumbnail with the checkbox that marks its image."""
    file = escape(example.file)
    image = f'<img alt="{escape(name)}" src="{data_uri(thumbnail, "image/jpeg")}">'
    return (
        f'<label title="{file}"><input type="checkbox" value="{file}">{image}'
        f'<span class="file"><bdi>{file}</bdi></span>'
        f'<span>margin {example.margin:.2f} · {escape(percent(example.fraction))}</span></label>'
    )


def _error_list(title: str, errors: Sequence[tuple[str, str]]) -> str:
    """Return a list of files with reasons, closed at first; nothing without errors."""
    if not errors:
        return ''
    rows = [[escape(file), escape(reason)] for file, reason in errors[:MAX_LISTED]]
    table = html_table(['image', 'reason'], rows)
    more = f'<p>and {len(errors) - MAX_LISTED:,} more</p>' if len(errors) > MAX_LISTED else ''
    return f'<details class="errors"><summary>{title}: {len(errors):,}</summary>{table}{more}</details>'


def _swatch(colour: Sequence[int]) -> str:
    red, green, blue = colour
    return f'<i class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></i>'


def _margin_bar(margin: float) -> str:
    return f'<span class="bar" style="--margin:{100 * margin:.0f}%">{margin:.2f}</span>'
