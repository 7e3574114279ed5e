"""HTML tables and images of the demo page and of explanations."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from mmzeg.apis.drawing import encode_image_file

# Longest side of an embedded image, in pixels.
MAX_SIDE = 1280


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str | None = None, numeric: bool = False
) -> str:
    """Return an HTML table.

    Args:
        header (Sequence[str]): Plain text, one per column.
        rows (Sequence[Sequence[str]]): Cells that are HTML already.
        caption (str, optional): Plain text.
        numeric (bool): Whether all columns but the first get the class ``number``. Defaults to False.
    """
    attributes = [' class="number"' if numeric and column else '' for column in range(len(header))]
    lines = [
        ''.join(
            f'<th scope="col"{attribute}>{escape(title)}</th>'
            for attribute, title in zip(attributes, header, strict=True)
        )
    ]
    for row in rows:
        lines.append(''.join(f'<td{attribute}>{cell}</td>' for attribute, cell in zip(attributes, row, strict=True)))
    head = '' if caption is None else f'<caption>{escape(caption)}</caption>'
    return f'<table>{head}{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def html_image(image: np.ndarray, alt: str) -> str:
    """Return an image (H, W, 3) or (H, W) uint8 as an HTML element with its data, reduced to ``MAX_SIDE`` pixels."""
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((MAX_SIDE, MAX_SIDE))
    return f'<img alt="{escape(alt)}" src="{data_uri(encode_image_file(thumbnail, "PNG"), "image/png")}">'


def data_uri(content: bytes, media_type: str) -> str:
    """Return the content of a file as an address that holds all of it."""
    return f'data:{media_type};base64,{base64.b64encode(content).decode()}'
