"""Make labelled folders as tools/label.py does, and write their review sheets."""

import base64
import hashlib
import json
import re
from io import BytesIO

import numpy as np
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.labelling.review import write_review_sheet

THUMBNAIL = re.compile(r'value="([^"]*)"><img alt="([^"]*)" src="data:image/jpeg;base64,([^"]*)"')
RED = (220, 40, 30)
BLUE = (30, 60, 220)
HARMFUL = [
    '<img src="http://example.org/x" onerror="window.hit=1">',
    '</script><script>window.hit=1</script>',
    'a "quoted" name & more',
    '" onfocus="window.hit=1" autofocus="',
    'Straße, 道路',
]


def write_settings(out, names, seen=(), **settings):
    out.mkdir(exist_ok=True)
    classes = dict(classes=names, seen=list(seen), ignore_index=255 if len(names) <= 255 else 65535)
    (out / 'classes.json').write_text(json.dumps(classes))
    (out / 'settings.json').write_text(json.dumps(classes | dict(config=dict(model={})) | settings))


def label_image(folder, file, image, labels, names, margins):
    """Write an image (H, W, 3) and its label map as the tool does; return its row."""
    path = folder / 'images' / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)
    ignore_index = 255 if len(names) <= 255 else 65535
    label_path = (folder / 'out/annotations' / file).with_suffix('.png')
    label_path.parent.mkdir(parents=True, exist_ok=True)
    label_path.write_bytes(indexed_png(labels, len(names), ignore_index))
    counts = {names[label]: int((labels == label).sum()) for label in np.unique(labels) if label != ignore_index}
    return dict(
        file=file,
        width=labels.shape[1],
        height=labels.shape[0],
        sha1=hashlib.sha1(path.read_bytes()).hexdigest(),
        pixels=counts,
        ignored=int((labels == ignore_index).sum()),
        margins={name: margins[name] for name in counts},
        mean_score=0.5,
        seconds=0.1,
        error=None,
    )


def error_row(file, error):
    empty = dict(width=None, height=None, sha1=None, pixels={}, ignored=0, margins={}, mean_score=None)
    return dict(file=file, **empty, seconds=0.0, error=error)


def two_halves(left, right, size=(60, 80)):
    """Return a label map (H, W) of two values."""
    labels = np.full(size, left)
    labels[:, size[1] // 2 :] = right
    return labels


def write_sheet(folder, rows):
    write_review_sheet(folder / 'out', rows, str(folder / 'images'))
    return (folder / 'out/review.html').read_text(encoding='utf-8')


def thumbnails(html):
    """Return every thumbnail as (file, class, array (H, W, 3))."""
    return [
        (file, name, np.asarray(Image.open(BytesIO(base64.b64decode(data)))))
        for file, name, data in THUMBNAIL.findall(html)
    ]
