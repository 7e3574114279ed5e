"""Segment images by any class names with ONNX Runtime, without PyTorch.

``tools/deployment/export_onnx.py`` copies this file, and those that it imports, into the exported folder as package
``mmzeg_onnx``. So their imports are relative, and nothing else of mmzeg is needed.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.image_decoding import read_image
from .onnx_arrays import (
    class_offset,
    crop_segments,
    dilate,
    fuse,
    mask_probabilities,
    mask_rows,
    merge_similar_masks,
    normalize,
    unique_masks,
)
from .onnx_images import pad_image, padded_size, resize_image

FORMAT = 4
SEGMENTS = 'segments.onnx'
CLIP = 'clip.onnx'
NAMES = 'names.npz'
SETTINGS = 'settings.json'
MODES = ('seg', 'img', 'full', 'unseen', 'geometric')
# Crops that CLIP encodes at once: few, so that the activations of a layer stay in a CPU's cache.
CHUNK_SIZE = 4
# Numbers that the scores, or the masks, of the rows of one tile of an image may hold.
TILE_SIZE = 1 << 22


class OnnxRunner:
    """Segment images by class names that may change at every call.

    Args:
        folder (str | Path): A folder that ``tools/deployment/export_onnx.py`` wrote.
        threads (int, optional): Number of threads of ONNX Runtime. Defaults to one per core.
        providers (list[str]): ONNX Runtime's execution providers; it uses the first one that is available.

    Raises:
        ImportError: ONNX Runtime is not installed.
        FileNotFoundError: A file of the folder is missing.
        ValueError: The folder has another format than this version of the runner reads.
    """

    def __init__(
        self, folder: str | Path, threads: int | None = None, providers: Sequence[str] = ('CPUExecutionProvider',)
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('OnnxRunner needs ONNX Runtime: pip install onnxruntime') from error
        # Read the settings
        self.folder = Path(folder)
        self.settings = json.loads(self._file(SETTINGS).read_text(encoding='utf-8'))
        if self.settings['format'] != FORMAT:
            raise ValueError(
                f'{self.folder / SETTINGS}: format {self.settings["format"]}, and this runner reads format {FORMAT}; '
                'export the model again, or use the runner in the folder (mmzeg_onnx)'
            )
        # Load the graphs
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        # Errors only: the warnings are about constants that are folded twice.
        options.log_severity_level = 3

        def load_graph(name: str) -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(str(self._file(name)), options, providers=list(providers))

        self._segments = load_graph(SEGMENTS)
        self._clip = load_graph(CLIP) if self.settings['clip'] else None
        # Load the text embeddings
        with open(self._file(NAMES), 'rb') as stream, np.load(stream, allow_pickle=False) as arrays:
            self._text = {key: arrays[key] for key in arrays.files}
        self._row = {name: row for row, name in enumerate(self._text['names'].tolist())}

    def __call__(
        self,
        image: str | Path | np.ndarray | Image.Image,
        classes: Sequence[str] | None = None,
        seen: Sequence[str] | None = None,
        mode: str | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        return_scores: bool = False,
    ) -> dict:
        """Segment an image.

        Args:
            image (str | Path | np.ndarray | Image.Image): A file, an array (H, W, 3) or (H, W) uint8 BGR, or a PIL
                image, read as ``mmzeg.apis.ZeroShotInferencer`` reads it.
            classes (Sequence[str], optional): Class names with embeddings in ``names.npz``; "sofa, couch" is one class
                with a synonym. Defaults to the exported config's.
            seen (Sequence[str], optional): Those of ``classes`` that are scored and calibrated as seen. Defaults to
                those that the model was trained on, by name.
            mode, lam, gamma (optional): As in ``mmzeg.ScoreFusion``. Default to the exported config's. Alpha and beta
                of mode ``geometric`` are always the exported config's.
            return_scores (bool): Also return the semantic map.

        Returns:
            dict: ``label_map`` (H, W) int64, indices of ``classes``; ``classes``; with ``return_scores`` also
            ``scores`` (C, H, W) float32, calibrated.

        Raises:
            ValueError: No class, a class twice or without an embedding, a name of ``seen`` that is not in ``classes``,
                invalid fusion settings, or not an image.
            FileNotFoundError: No such file.
        """
        names, is_seen = self._vocabulary(classes, seen)
        mode, lam, gamma = self._fusion(mode, lam, gamma)
        # Read and resize the image
        pixels = read_image(image)
        original = pixels.shape[:2]
        pixels = self.resize(pixels)
        valid = pixels.shape[:2]
        padded = padded_size(valid, self.settings['pad'])
        # Score every segment
        class_logits, mask_logits, clip_logits = self.predict_logits(pixels, names, use_clip=mode != 'seg')
        scores = self.fuse(class_logits, clip_logits, is_seen, mode, lam)
        # Assemble the semantic map tile by tile, so that memory does not grow with the classes
        offset = class_offset(is_seen, gamma)[:, None]
        rows_per_tile = max(1, TILE_SIZE // (max(scores.shape) * max(original[1], padded[1])))
        label_map = np.empty(original, np.int64)
        semantic_map = np.empty((len(names), *original), np.float32) if return_scores else None
        for first in range(0, original[0], rows_per_tile):
            rows = range(first, min(first + rows_per_tile, original[0]))
            masks = mask_rows(mask_logits, padded, valid, original, rows)
            tile = scores.T @ masks.reshape(len(masks), -1) - offset
            label_map[first : rows.stop] = tile.argmax(0).reshape(len(rows), -1)
            if return_scores:
                semantic_map[:, first : rows.stop] = tile.reshape(len(names), len(rows), -1)
        result = dict(label_map=label_map, classes=names)
        if return_scores:
            result['scores'] = semantic_map
        return result

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize an image (H, W, 3) uint8 RGB as the exported config's test pipeline does."""
        for step in self.settings['resize']:
            image = resize_image(image, step)
        return image

    def predict_logits(
        self, image: np.ndarray, classes: Sequence[str], use_clip: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Predict class, mask and CLIP logits of every segment.

        Args:
            image (np.ndarray): (H, W, 3) RGB in 0..255, resized.
            classes (Sequence[str]): C class names with embeddings in ``names.npz``.
            use_clip (bool): Score the crops by CLIP. Defaults to True.

        Returns:
            tuple: Class logits (Q, C + 1), "no object" last; mask logits (Q, h, w); CLIP logits (Q, C), None without
            ``use_clip``.
        """
        # Predict masks and classify their embeddings
        rows = [self._row[name] for name in classes]
        inputs = self.network_input(image)
        feeds = dict(image=inputs[None], text=self._text['segments'][rows])
        class_logits, mask_logits = (output[0] for output in self._segments.run(None, feeds))
        if not use_clip:
            return class_logits, mask_logits, None
        # Encode the crops, normalized by CLIP's mean and deviation
        clip = self.settings['clip']
        clip_image = (image - 255 * np.float32(clip['mean'])) / (255 * np.float32(clip['std']))
        clip_masks = mask_logits
        if clip['merge_iou_thr'] is not None:
            clip_masks = merge_similar_masks(class_logits[:, -1], mask_logits, clip['merge_iou_thr'])
        crop_embeddings = self.encode_crops(pad_image(clip_image, inputs.shape[1:]), clip_masks)
        # Average over crop modes and compare with the class names
        embeddings = normalize(normalize(crop_embeddings).mean(0))
        clip_logits = clip['scale'] * embeddings @ self._text['clip'][rows].T + clip['bias']
        return class_logits, mask_logits, clip_logits

    def network_input(self, image: np.ndarray) -> np.ndarray:
        """Normalize and pad a resized image (H, W, 3) RGB in 0..255 to the network's input (3, H', W') float32."""
        settings = self.settings
        image = np.float32(image if settings['rgb'] else image[..., ::-1])
        if settings['mean']:
            image = (image - np.float32(settings['mean'])) / np.float32(settings['std'])
        return pad_image(image, padded_size(image.shape[:2], settings['pad']), settings['pad']['value'])

    def encode_crops(self, image: np.ndarray, mask_logits: np.ndarray) -> np.ndarray:
        """Encode the crop of every segment by CLIP's image encoder, in every crop mode.

        Args:
            image (np.ndarray): (3, H, W), normalized by CLIP's mean and deviation; its padding is zero.
            mask_logits (np.ndarray): (Q, h, w).

        Returns:
            np.ndarray: (M, Q, d) embeddings for M crop modes, not normalized.
        """
        clip = self.settings['clip']
        queries, indices = unique_masks(mask_logits)
        chunks = []
        for chunk in np.split(queries, range(CHUNK_SIZE, len(queries), CHUNK_SIZE)):
            masks = mask_probabilities(mask_logits[chunk], image.shape[1:])
            if clip['mask_dilation']:
                masks = dilate(masks, clip['mask_dilation'])
            crops = [crop_segments(image, masks, clip['size'], crop_mode) for crop_mode in clip['crop_modes']]
            chunks.append(np.stack([self._clip.run(None, dict(crops=batch))[0] for batch in crops]))
        return np.concatenate(chunks, 1)[:, indices]

    def _vocabulary(self, classes: Sequence[str] | None, seen: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
        """Return the class names of a call, and which of them are seen (C,)."""
        if isinstance(classes, str):
            raise ValueError(f'classes is one string, {classes[:40]!r}: give a list of names')
        names = list(self.settings['classes'] if classes is None else classes)
        if not names or len(set(names)) < len(names):
            raise ValueError(f'classes must be different names, one or more, got {names[:5]}')
        unknown = [name for name in names if name not in self._row]
        if unknown:
            raise ValueError(
                f'{self.folder / NAMES} has no embedding of class {unknown[0]!r}: add it with '
                f"tools/deployment/embed_names.py CONFIG {self.folder} '{unknown[0]}'"
            )
        unknown = [name for name in seen or () if name not in names]
        if unknown:
            raise ValueError(f'{unknown[0]!r} is listed in seen but not among the classes: add it there')
        seen_names = set(self.settings['trained_classes'] if seen is None else seen)
        return names, np.array([name in seen_names for name in names])

    def fuse(
        self, class_logits: np.ndarray, clip_logits: np.ndarray | None, seen: np.ndarray, mode: str, lam: float
    ) -> np.ndarray:
        """Fuse both scores with the exported config's alpha and beta; see ``onnx_arrays.fuse``."""
        weights = {name: self.settings['fusion'][name] for name in ('alpha', 'beta')}
        return fuse(class_logits, clip_logits, seen, mode, lam, **weights)

    def _fusion(self, mode: str | None, lam: float | None, gamma: float | None) -> tuple[str, float, float]:
        """Return the fusion settings of a call; those that are None come from the exported config."""
        defaults = self.settings['fusion']
        mode = defaults['mode'] if mode is None else mode
        lam = defaults['lam'] if lam is None else lam
        gamma = defaults['gamma'] if gamma is None else gamma
        if mode not in MODES:
            raise ValueError(f'fusion mode {mode!r} is unknown: use one of {", ".join(MODES)}')
        if not 0 <= lam <= 1 or not 0 <= gamma < np.inf:
            raise ValueError(f'fusion lam must lie in [0, 1], gamma be 0 or more and finite, got {lam} and {gamma}')
        if mode != 'seg' and self._clip is None:
            raise ValueError(f"mode {mode!r} needs CLIP logits, and the exported config has no scorer: use mode='seg'")
        return mode, lam, gamma

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such file; make the folder with tools/deployment/export_onnx.py')
        return path
