"""The state of one user of the demo page: an encoded image and its predictions for the present class names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmzeg.apis.drawing import indexed_png
from mmzeg.apis.encoded_image import EncodedImage
from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.apis.preview import Preview
from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.class_names import check_class_names, parse_class_names
from mmzeg.models.fusion import ScoreFusion
from mmzeg.utils.image_decoding import read_image
from mmzeg.utils.palette import palette

# Range of the longest side of a drawing, in pixels.
MIN_SIDE, MAX_SIDE = 384, 480
# Of the colours of classes over the image.
OPACITY = 0.55
MAX_CLASSES = 1000


def parse_typed_names(text: str) -> list[str]:
    """Parse typed class names, see ``parse_class_names``.

    Raises:
        ValueError: No name, too many, or a class listed twice.
    """
    names = parse_class_names(text)
    if not names:
        raise ValueError('no class name: type one per line')
    if len(names) > MAX_CLASSES:
        raise ValueError(f'{len(names)} class names: give at most {MAX_CLASSES}')
    return list(check_class_names(names, 'classes'))


@dataclass(frozen=True)
class Session:
    """One image of one user. The page keeps it in the user's own state.

    Args:
        file (str): Name of the image file.
        image (np.ndarray): (h, w, 3) uint8 RGB, at the size of drawings.
        encoded (EncodedImage): The image at its original size, encoded.
        predictions (SegmentPredictions, optional): For the present class names.
        preview (Preview, optional): Label maps (h, w) of these.
    """

    file: str
    image: np.ndarray
    encoded: EncodedImage
    predictions: SegmentPredictions | None = None
    preview: Preview | None = None

    @classmethod
    def start(cls, inferencer: ZeroShotInferencer, path: str) -> 'Session':
        """Read and encode an image file; the session has no class names yet.

        Raises:
            ValueError, OSError: Truncated or not an image, or too large.
        """
        image = read_image(path)
        encoded = inferencer.encode(np.ascontiguousarray(image[..., ::-1]), path)
        height, width = image.shape[:2]
        longest = max(height, width)
        scale = np.clip(longest, MIN_SIDE, MAX_SIDE) / longest
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small_image = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        return cls(Path(path).name, np.asarray(small_image), encoded)

    def classify(self, inferencer: ZeroShotInferencer, names: Sequence[str] | None) -> 'Session':
        """Return the session with other class names, or with none; the networks do not run.

        Raises:
            ValueError: No name, or a class listed twice.
        """
        if names is None:
            return replace(self, predictions=None, preview=None)
        predictions = inferencer.classify(self.encoded, names)
        return replace(self, predictions=predictions, preview=Preview(predictions, self.image.shape[:2]))

    def draw(self, fusion: ScoreFusion) -> tuple[np.ndarray, np.ndarray]:
        """Draw the label map over the image.

        Returns:
            tuple[np.ndarray, np.ndarray]: The drawing (h, w, 3) uint8 RGB, and the area of every class (C,) as a
            fraction of the image, 0..1.
        """
        labels = self.preview.label_map(fusion)
        colours = palette(len(self.predictions.vocabulary))
        drawing = cv2.addWeighted(self.image, 1 - OPACITY, colours[labels], OPACITY, 0)
        return drawing, np.bincount(labels.ravel(), minlength=len(colours)) / labels.size

    def original_pixel(self, column: int, row: int) -> tuple[int, int]:
        """Return x and y in the original image of a pixel of a drawing."""
        height, width = self.image.shape[:2]
        original_height, original_width = self.predictions.sizes.original
        x = min(int((column + 0.5) * original_width / width), original_width - 1)
        y = min(int((row + 0.5) * original_height / height), original_height - 1)
        return x, y

    def explain_pixel(self, fusion: ScoreFusion, x: int, y: int) -> tuple[np.ndarray, dict]:
        """Explain the label of a pixel of the original image.

        Returns:
            tuple[np.ndarray, dict]: The drawing of ``draw`` with an outline of the pixel's segment; and the result of
            ``SegmentPredictions.explain_pixel`` with ``x``, ``y`` and ``area``, the segment's fraction of the image.

        Raises:
            ValueError: A pixel outside the image.
        """
        explanation = self.predictions.explain_pixel(fusion, x, y)
        label = self.predictions.vocabulary.index(explanation['name'])
        mask = self.preview.segment(fusion, label, explanation['query'])
        drawing, _ = self.draw(fusion)
        # A white outline on a wider black one shows on every colour.
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
            cv2.drawContours(drawing, outlines, -1, colour, thickness)
        return drawing, explanation | dict(x=x, y=y, area=mask.mean())

    def result_files(self, fusion: ScoreFusion) -> dict[str, bytes]:
        """Return the contents of the result files by name: a label map (PNG) and its segments (JSON).

        The label map has the original size: indices with a palette, or 16 bits of grey for more than 256 classes. The
        JSON has the settings, every class with its value in the label map, and the segments of
        ``SegmentPredictions.label_map_and_segments``.
        """
        labels, segments = self.predictions.label_map_and_segments(fusion)
        labels = labels.cpu().numpy()
        vocabulary = self.predictions.vocabulary
        colours = palette(len(vocabulary))
        classes = [
            dict(value=value, name=name, trained_on=vocabulary.is_seen(name), colour=colours[value].tolist())
            for value, name in enumerate(vocabulary.names)
        ]
        report = dict(image=self.file, width=labels.shape[1], height=labels.shape[0])
        report |= dict(mode=fusion.mode, lam=fusion.lam, gamma=fusion.gamma, classes=classes, segments=segments)
        text = json.dumps(report, indent=1, ensure_ascii=False)
        stem = f'{Path(self.file).stem}_{fusion.mode}'
        return {f'{stem}.png': indexed_png(labels, len(vocabulary)), f'{stem}.json': text.encode()}
