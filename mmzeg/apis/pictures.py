"""Pictures of any kind as arrays, and where inputs stand for several."""

import glob
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmzeg.apis.video import frames, is_video

SUFFIXES = frozenset(Image.registered_extensions())


def read_picture(source: str | Path | np.ndarray | Image.Image) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB, upright.

    Args:
        source: A file; an array (H, W, 3) or (H, W) uint8, BGR as OpenCV has it; or a PIL image. Of an animation the
            first frame is taken; transparency is laid on white; 16 bits become 8.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a picture, cut off, too large (Pillow's limit, 179 million pixels), or an array of another form.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or source.ndim == 3 and source.shape[2] != 3:
            raise ValueError(f'an array of {source.dtype} {source.shape}: give (H, W, 3) or (H, W) uint8, BGR')
        return np.ascontiguousarray(np.stack([source] * 3, -1) if source.ndim == 2 else source[..., ::-1])
    if isinstance(source, Image.Image):
        return _rgb(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file')
    try:
        with warnings.catch_warnings():
            # Between half the limit and the limit Pillow warns.
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f'{path}: too large ({error}): make it smaller first') from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = 'not a kind of picture that Pillow reads' if 'cannot identify' in str(error) else str(error)
        raise ValueError(f'{path}: not a whole picture ({reason})') from error


def _rgb(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):
        # 16 bits of grey, under the names that versions of Pillow give them.
        grey = np.clip(np.asarray(image).astype(np.int64) // 257, 0, 255).astype(np.uint8)
        return np.stack([grey] * 3, -1)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return np.asarray(image.convert('RGB'))


def expand(inputs: object) -> list[object]:
    """Single files, arrays, images and camera numbers of what may be a folder, a pattern like ``photos/*.jpg``, or a
    list of all that.

    Raises:
        FileNotFoundError: Nothing fits a pattern, or a folder has neither pictures nor videos.
    """
    if isinstance(inputs, (list, tuple)):
        return [found for part in inputs for found in expand(part)]
    if isinstance(inputs, (str, Path)) and Path(inputs).is_dir():
        found = [
            str(path) for path in sorted(Path(inputs).iterdir()) if path.suffix.lower() in SUFFIXES or is_video(path)
        ]
        if not found:
            raise FileNotFoundError(f'{inputs}: no picture and no video is in this folder')
        return found
    if isinstance(inputs, str) and glob.has_magic(inputs) and not Path(inputs).exists():
        found = sorted(glob.glob(inputs, recursive=True))
        if not found:
            raise FileNotFoundError(f'{inputs}: no file fits this pattern')
        return found
    return [inputs]


def read_all(sources: Iterable[object]) -> Iterator[tuple[object, np.ndarray | None, str | None]]:
    """Pictures one after another, of a video its frames: what it is of, (H, W, 3) uint8 RGB, and None.

    Where a picture cannot be read, or a video not further: what it is of, None, and why.
    """
    for source in sources:
        moving = isinstance(source, int) or isinstance(source, (str, Path)) and is_video(source)
        try:
            if moving:
                for number, frame in enumerate(frames(source)):
                    yield f'{source}#{number}', np.ascontiguousarray(frame[..., ::-1]), None
            else:
                yield source, read_picture(source), None
        except (OSError, ValueError) as error:
            yield source, None, str(error)
