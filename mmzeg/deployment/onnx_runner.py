"""Any class name on any picture by ONNX Runtime: no PyTorch, and nothing of mmzeg but the file of arrays.

The import of it is relative because ``tools/deployment/export_onnx.py`` puts copies of both into what it writes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .onnx_arrays import crop_segments, grow, mask_probabilities, mask_rows, merge_similar_masks

FORMAT = 2
SEGMENTS, CLIP, NAMES, SETTINGS = 'segments.onnx', 'clip.onnx', 'names.npz', 'settings.json'
MODES = ('seg', 'img', 'full', 'unseen')
# Few enough sub-images that what a layer of CLIP makes of them stays in a CPU's cache.
CHUNK = 4
# Numbers that the classes, or the masks, of some rows of a picture may take.
TILE = 1 << 22


class OnnxRunner:
    """Segments pictures by class names that may change at every call.

    Args:
        folder (str | Path): What ``tools/deployment/export_onnx.py`` wrote.
        threads (int, optional): Of ONNX Runtime. Defaults to one a core.
        providers (list[str]): ONNX Runtime's execution providers, the first that can is taken.

    Raises:
        ImportError: ONNX Runtime is not installed.
        FileNotFoundError: A file of the folder is not there.
        ValueError: The folder is of another version of this file.
    """

    def __init__(
        self, folder: str | Path, threads: int | None = None, providers: Sequence[str] = ('CPUExecutionProvider',)
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('OnnxRunner needs ONNX Runtime: pip install onnxruntime') from error
        self.folder = Path(folder)
        self.settings = json.loads(self._file(SETTINGS).read_text(encoding='utf-8'))
        if self.settings['format'] != FORMAT:
            raise ValueError(
                f'{self.folder / SETTINGS}: of format {self.settings["format"]}, this runner reads {FORMAT}: export '
                'again, or use the runner in the folder'
            )
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        # PyTorch's way of counting cannot be told from a graph's: warnings would be about constants folded twice.
        options.log_severity_level = 3
        files = [SEGMENTS, CLIP] if self.settings['clip'] else [SEGMENTS]
        sessions = [
            onnxruntime.InferenceSession(str(self._file(name)), options, providers=list(providers)) for name in files
        ]
        self._segments, self._clip = sessions if self.settings['clip'] else (sessions[0], None)
        with np.load(self._file(NAMES), allow_pickle=False) as names:
            self._text = {key: names[key] for key in names.files}
        self._row = {name: row for row, name in enumerate(self._text['names'].tolist())}

    def __call__(
        self,
        picture: str | Path | np.ndarray | Image.Image,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        return_scores: bool = False,
    ) -> dict:
        """Segment a picture.

        Args:
            picture (str | Path | np.ndarray | Image.Image): A file, an array (H, W, 3) uint8 BGR, or a PIL image.
            classes (Sequence[str], optional): Names with embeddings in ``names.npz``, "sofa, couch" being one class
                with a synonym. Defaults to the exported config's.
            seen (Sequence[str], optional): Those of ``classes`` that are scored and calibrated as seen. Defaults to
                those that the model was trained on, by name.
            mode, lam, gamma (optional): As in ``mmzeg.ScoreFusion``. Default to the exported config's.
            return_scores (bool): Also return the semantic map.

        Returns:
            dict: ``label_map`` (H, W) int64, indices of ``classes``; ``classes``; if asked for, ``scores`` (C, H, W)
            float32, calibrated.

        Raises:
            ValueError: No class, one twice or without an embedding, a name of ``seen`` that is not in ``classes``, bad
                fusion settings, or not a picture.
            FileNotFoundError: No such file.
        """
        names, is_seen = self._vocabulary(classes, seen)
        mode, lam, gamma = self._fusion(mode, lam, gamma)
        pixels = read_image(picture)
        original = pixels.shape[:2]
        pixels = self.resized(pixels)
        valid = pixels.shape[:2]
        class_logits, mask_logits, clip_logits = self.predict_logits(pixels, names, mode != 'seg')
        scores = fuse(class_logits, clip_logits, is_seen, mode, lam)
        taken = (gamma * is_seen).astype(np.float32)[:, None]
        padded = padded_size(valid, self.settings['pad'])
        step = max(1, TILE // (max(scores.shape) * max(original[1], padded[1])))
        label_map = np.empty(original, np.int64)
        semantic_map = np.empty((len(names), *original), np.float32) if return_scores else None
        for first in range(0, original[0], step):
            rows = range(first, min(first + step, original[0]))
            masks = mask_rows(mask_logits, padded, valid, original, rows)
            tile = scores.T @ masks.reshape(len(masks), -1) - taken
            label_map[first : rows.stop] = tile.argmax(0).reshape(len(rows), -1)
            if return_scores:
                semantic_map[:, first : rows.stop] = tile.reshape(len(names), len(rows), -1)
        found = dict(label_map=label_map, classes=names)
        return found | dict(scores=semantic_map) if return_scores else found

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 RGB as the config's test pipeline resizes it."""
        for step in self.settings['resize']:
            width, height = resized_size(picture.shape[1::-1], step)
            if step['backend'] == 'pillow':
                picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
            else:
                try:
                    import cv2
                except ImportError as error:
                    raise ImportError(
                        'the exported config resizes by OpenCV: pip install opencv-python-headless'
                    ) from error
                picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        return picture

    def predict_logits(
        self, picture: np.ndarray, classes: Sequence[str], ask_clip: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Class logits (Q, C + 1), mask logits (Q, h, w), and CLIP's logits (Q, C) if it is asked.

        Args:
            picture (np.ndarray): (H, W, 3) RGB in 0..255, resized.
            classes (Sequence[str]): C names.
            ask_clip (bool): Defaults to True.
        """
        rows = [self._row[name] for name in classes]
        inputs = self.network_input(picture)
        fields = dict(picture=inputs[None], text=self._text['segments'][rows])
        class_logits, mask_logits = (found[0] for found in self._segments.run(None, fields))
        if not ask_clip:
            return class_logits, mask_logits, None
        clip = self.settings['clip']
        image = (picture - 255 * np.float32(clip['mean'])) / (255 * np.float32(clip['std']))
        merge_iou_thr, shown = clip['merge_iou_thr'], mask_logits
        if merge_iou_thr is not None:
            shown = merge_similar_masks(class_logits[:, -1], mask_logits, merge_iou_thr)
        views = self.embed(_padded(image, inputs.shape[1:]), shown)
        embeddings = _unit(_unit(views).mean(0))
        return class_logits, mask_logits, clip['scale'] * embeddings @ self._text['clip'][rows].T + clip['bias']

    def network_input(self, picture: np.ndarray) -> np.ndarray:
        """A resized picture (H, W, 3) RGB in 0..255 as the network gets it: (3, H', W') float32, padded."""
        settings = self.settings
        picture = np.float32(picture if settings['rgb'] else picture[..., ::-1])
        if settings['mean']:
            picture = (picture - np.float32(settings['mean'])) / np.float32(settings['std'])
        return _padded(picture, padded_size(picture.shape[:2], settings['pad']), settings['pad']['value'])

    def embed(self, image: np.ndarray, mask_logits: np.ndarray) -> np.ndarray:
        """(S, Q, d) embeddings of the sub-images of S styles: of an image (3, H, W) with CLIP's mean and deviation, its
        padding zero, under mask logits (Q, h, w)."""
        clip = self.settings['clip']
        # Equal masks have one sub-image; all empty ones too.
        numbers: dict[bytes, int] = {}
        keys = [mask.tobytes() if mask.max() > 0 else b'' for mask in mask_logits]
        first = [numbers.setdefault(key, query) for query, key in enumerate(keys)]
        shown = np.unique(first)
        parts = []
        for chunk in np.split(shown, range(CHUNK, len(shown), CHUNK)):
            masks = mask_probabilities(mask_logits[chunk], image.shape[1:])
            if clip['grow']:
                masks = grow(masks, clip['grow'])
            views = [crop_segments(image, masks, clip['size'], style) for style in clip['styles']]
            parts.append(np.stack([self._clip.run(None, dict(crops=view))[0] for view in views]))
        return np.concatenate(parts, 1)[:, np.searchsorted(shown, first)]

    def _vocabulary(self, classes: Sequence[str] | None, seen: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
        if isinstance(classes, str):
            raise ValueError(f'classes is one string, {classes[:40]!r}: give a list of names')
        names = list(self.settings['classes'] if classes is None else classes)
        if not names or len(set(names)) < len(names):
            raise ValueError(f'classes must be different names, one or more, got {names[:5]}')
        strangers = [name for name in names if name not in self._row]
        if strangers:
            raise ValueError(
                f'{self.folder / NAMES} has no embedding of class {strangers[0]!r}: add it with '
                f"tools/deployment/embed_names.py CONFIG {self.folder} '{strangers[0]}'"
            )
        strangers = [name for name in seen or () if name not in names]
        if strangers:
            raise ValueError(f'{strangers[0]!r} is listed in seen but not among the classes: add it there')
        known = set(self.settings['trained'] if seen is None else seen)
        return names, np.array([name in known for name in names])

    def _fusion(self, mode: str | None, lam: float | None, gamma: float | None) -> tuple[str, float, float]:
        own = self.settings['fusion']
        mode, lam, gamma = (
            own[key] if value is None else value for key, value in (('mode', mode), ('lam', lam), ('gamma', gamma))
        )
        if mode not in MODES:
            raise ValueError(f'fusion mode {mode!r} is unknown: use one of {", ".join(MODES)}')
        if not 0 <= lam <= 1 or not 0 <= gamma < np.inf:
            raise ValueError(f'fusion lam must lie in [0, 1], gamma be 0 or more and finite, got {lam} and {gamma}')
        if mode != 'seg' and self._clip is None:
            raise ValueError(
                f"mode {mode!r} needs CLIP's opinion, and the exported config had no scorer: use mode='seg'"
            )
        return mode, lam, gamma

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f'{path}: not there; make the folder with tools/deployment/export_onnx.py')
        return path


def read_image(picture: str | Path | np.ndarray | Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright; ValueError where it is no whole picture, or more to it than 8 bits of colour.

    ``mmzeg.apis.image_reading`` reads more kinds, and needs mmzeg.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f'an array of {picture.dtype} {picture.shape}: give (H, W, 3) uint8, BGR')
        return np.ascontiguousarray(picture[..., ::-1])
    if not isinstance(picture, Image.Image):
        try:
            with Image.open(picture) as image:
                return read_image(image)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError) as error:  # PIL's own are among them
            raise ValueError(f'{picture}: not a whole picture ({error})') from error
    image = picture
    if image.mode[0] in 'IF' or image.has_transparency_data:
        raise ValueError(f'a picture of mode {image.mode} with more than 8 bits or with transparency: give it as RGB')
    return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))


def resized_size(size: Sequence[int], step: dict) -> tuple[int, int]:
    """Width and height that a step of the pipeline gives a picture of this width and height."""
    (width, height), scale = size, step['scale']
    if step['kind'] == 'fixed':
        return tuple(scale)
    if step['kind'] == 'inside':
        factor = min(max(scale) / max(size), min(scale) / min(size))
        return int(width * factor + 0.5), int(height * factor + 0.5)
    # The shorter side's length, unless the longer side would exceed its own; in the order of detectron2's products.
    factor = scale / min(size)
    sides = (scale, factor * height) if width <= height else (factor * width, scale)
    if max(sides) > step['max_size']:
        factor = step['max_size'] / max(sides)
        sides = tuple(side * factor for side in sides)
    return int(sides[0] + 0.5), int(sides[1] + 0.5)


def padded_size(size: Sequence[int], pad: dict) -> tuple[int, int]:
    """Height and width of the network's input for a picture of this height and width."""
    if pad['size']:
        return tuple(max(side, least) for side, least in zip(size, pad['size'], strict=True))
    divisor = pad['divisor'] or 1
    return tuple(-(-side // divisor) * divisor for side in size)


def _padded(picture: np.ndarray, size: Sequence[int], value: float = 0.0) -> np.ndarray:
    """(3, H, W) of (h, w, 3), filled up below and at the right."""
    room = [(0, 0), *((0, whole - side) for whole, side in zip(size, picture.shape, strict=False))]
    return np.pad(picture.transpose(2, 0, 1), room, constant_values=value)


def fuse(
    class_logits: np.ndarray, clip_logits: np.ndarray | None, seen: np.ndarray, mode: str, lam: float
) -> np.ndarray:
    """Scores (Q, C) in 0..1, as ``mmzeg.ScoreFusion``.

    Args:
        class_logits (np.ndarray): (Q, C + 1), "no object" last.
        clip_logits (np.ndarray, optional): (Q, C) of CLIP; unused in mode ``seg``.
        seen (np.ndarray): (C,) bool.
        mode (str), lam (float): As there.
    """
    p = _softmax(class_logits)[:, :-1]
    if mode == 'seg':
        return p
    q = _softmax(np.concatenate([clip_logits, class_logits[:, -1:]], 1))[:, :-1]
    if mode == 'img':
        return q
    as_unseen = p ** (1 - lam) * q**lam
    if mode == 'unseen' or not seen.any():
        return as_unseen
    return np.where(seen, p**lam * q[:, seen].mean(1, keepdims=True) ** (1 - lam), as_unseen)


def _softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
