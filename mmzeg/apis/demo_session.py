"""What one visitor's page works on: a picture, what was seen in it, and the names it has at present."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmzeg.class_names import parse_class_names
from mmzeg.apis.drawing import indexed_png, palette
from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.apis.segment_predictions import EncodedImage, SegmentPredictions
from mmzeg.apis.image_reading import read_image
from mmzeg.apis.preview import Preview
from mmzeg.models.fusion import ScoreFusion
from mmzeg.vocabulary import Vocabulary

# Longest side of what is drawn, in pixels, at least and at most; of the colours, their opacity.
LEAST, MOST, OPACITY = 384, 480, 0.55
MAX_CLASSES = 1000


def class_names(text: str) -> list[str]:
    """Names as of ``parse_class_names``.

    Raises:
        ValueError: No name, too many, or a class listed twice.
    """
    names = parse_class_names(text)
    if not names:
        raise ValueError('no class name: type one a line')
    if len(names) > MAX_CLASSES:
        raise ValueError(f'{len(names)} class names: at most {MAX_CLASSES} are taken')
    return list(Vocabulary(names).names)


@dataclass(frozen=True)
class Session:
    """One picture. It lives in its visitor's session alone.

    Args:
        file (str): The picture's name.
        picture (np.ndarray): (h, w, 3) uint8 RGB, as large as it is drawn.
        look (EncodedImage): What network and CLIP saw in it.
        opinions (SegmentPredictions, optional): Of the present class names.
        preview (Preview, optional): Label maps of these at (h, w).
    """

    file: str
    picture: np.ndarray
    look: EncodedImage
    opinions: SegmentPredictions | None = None
    preview: Preview | None = None

    @classmethod
    def begin(cls, inferencer: ZeroShotInferencer, path: str) -> 'Session':
        """A visit with a picture and no names yet: the network runs.

        Raises:
            ValueError, OSError: Not a picture, cut off, or too large.
        """
        picture = read_image(path)
        look = inferencer.encode(np.ascontiguousarray(picture[..., ::-1]))
        height, width = picture.shape[:2]
        scale = np.clip(max(height, width), LEAST, MOST) / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(Path(path).name, np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)), look)

    def named(self, inferencer: ZeroShotInferencer, names: Sequence[str] | None) -> 'Session':
        """The visit with other class names, or with none; the network does not run.

        Raises:
            ValueError: No name, or a class listed twice.
        """
        if names is None:
            return replace(self, opinions=None, preview=None)
        opinions = inferencer.classify(self.look, names)
        return replace(self, opinions=opinions, preview=Preview(opinions, self.picture.shape[:2]))

    def draw(self, fusion: ScoreFusion) -> tuple[np.ndarray, np.ndarray]:
        """A picture (h, w, 3) uint8 RGB in the colours of its classes, and every class's share of it (C,), 0..1."""
        labels = self.preview.label_map(fusion.mode, fusion.lam, fusion.gamma)
        colours = palette(len(self.opinions.vocabulary))
        drawn = cv2.addWeighted(self.picture, 1 - OPACITY, colours[labels], OPACITY, 0)
        return drawn, np.bincount(labels.ravel(), minlength=len(colours)) / labels.size

    def pixel(self, column: int, row: int) -> tuple[int, int]:
        """The x and y, in the picture as it came, of a drawn pixel."""
        (height, width), (rows, columns) = self.picture.shape[:2], self.opinions.geometry.original
        return tuple(
            min(int((place + 0.5) * own / drawn), own - 1)
            for place, own, drawn in ((column, columns, width), (row, rows, height))
        )

    def explain(self, fusion: ScoreFusion, x: int, y: int) -> tuple[np.ndarray, dict]:
        """Why a pixel of the picture as it came has its name.

        Returns:
            tuple[np.ndarray, dict]: As ``draw``, with the outline of the pixel's segment; and what
            ``SegmentPredictions.explain`` says, with ``x``, ``y`` and the ``share`` of the segment in the picture, 0..1.

        Raises:
            ValueError: A pixel outside the picture.
        """
        found = self.opinions.explain(fusion, x, y)
        inside = self.preview.segment(fusion, self.opinions.vocabulary.index(found['name']), found['query'])
        drawn, _ = self.draw(fusion)
        outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
            cv2.drawContours(drawn, outlines, -1, colour, thickness)
        return drawn, found | dict(x=x, y=y, share=inside.mean())

    def files(self, fusion: ScoreFusion) -> dict[str, bytes]:
        """Contents by name: the label map at the picture's own size, and what stands in it.

        The map is a palette PNG, or from 257 classes on one of 16 bits of grey; the JSON has the settings, every class
        with its value in the map, and the segments of ``SegmentPredictions.read``.
        """
        labels, segments = self.opinions.read(fusion)
        labels, vocabulary = labels.cpu().numpy(), self.opinions.vocabulary
        colours = palette(len(vocabulary))
        classes = [
            dict(value=value, name=name, trained_on=vocabulary.is_seen(name), colour=colours[value].tolist())
            for value, name in enumerate(vocabulary.names)
        ]
        report = dict(picture=self.file, width=labels.shape[1], height=labels.shape[0])
        report |= dict(mode=fusion.mode, lam=fusion.lam, gamma=fusion.gamma, classes=classes, segments=segments)
        stem = f'{Path(self.file).stem}_{fusion.mode}'
        text = json.dumps(report, indent=1, ensure_ascii=False)
        return {f'{stem}.png': indexed_png(labels, len(vocabulary)), f'{stem}.json': text.encode()}
