"""Pictures of any kind as arrays, and where inputs stand for several."""

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmzeg.apis.video import frames, is_video

try:
    from pillow_heif import register_heif_opener
except ImportError:
    HEIC_READER = False
else:
    register_heif_opener()
    HEIC_READER = True

# Of formats that Pillow can open, not those that it can only write; .mpo it opens as JPEG.
SUFFIXES = frozenset(['.mpo', *(end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN)])


def read_image(source: str | Path | np.ndarray | Image.Image) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB, upright.

    Args:
        source: A file; an array (H, W, 3) or (H, W) uint8, BGR as OpenCV has it; or a PIL image. Of an animation the
            first frame is taken; transparency is laid on white; 16 bits become 8.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a picture, cut off, too large (Pillow's limit, 179 million pixels, for files, arrays and images
            alike), or an array of another form.
    """
    if isinstance(source, np.ndarray):
        form = source.ndim == 2 or source.ndim == 3 and source.shape[2] == 3
        if source.dtype != np.uint8 or not form or not source.size:
            raise ValueError(f'an array of {source.dtype} {source.shape}: give (H, W, 3) or (H, W) uint8, BGR')
        _check_size(*source.shape[1::-1])
        return np.ascontiguousarray(np.stack([source] * 3, -1) if source.ndim == 2 else source[..., ::-1])
    if not isinstance(source, (str, Path, Image.Image)):
        kind = type(source).__name__
        raise ValueError(f'{kind} is no picture: give a file, an array (H, W, 3) uint8 BGR, or a PIL image')
    opened = isinstance(source, Image.Image)
    if not opened and not os.path.isfile(source):
        raise FileNotFoundError(f'{source}: no such file')
    name = 'a PIL image' if opened else source
    try:
        with warnings.catch_warnings():
            # Between half the limit and the limit Pillow warns; and of small damage, such as to EXIF.
            warnings.simplefilter('ignore')
            if opened:
                return _rgb(source)
            with Image.open(source) as image:
                return _rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name}: too large ({error}): make it smaller first') from error
    except UnidentifiedImageError as error:
        if _is_heic(source) and not HEIC_READER:
            raise ValueError(
                f'{name}: HEIC, which Pillow alone does not read: pip install pillow-heif, or convert it'
            ) from error
        raise ValueError(f'{name}: not a whole picture (not a kind of picture that Pillow reads)') from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{name}: not a whole picture ({_first_line(error)})') from error
    except Exception as error:  # where bytes are damaged, Pillow's decoders raise errors of any kind
        raise ValueError(f'{name}: cannot be read ({_first_line(error)})') from error


def _check_size(width: int, height: int) -> None:
    """Pillow's own check, for what is opened already."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and width * height > 2 * limit:
        raise ValueError(
            f'a picture of {width} x {height} is too large (more than {2 * limit} pixels): make it smaller'
        )


def _is_heic(path: str | Path) -> bool:
    with open(path, 'rb') as file:
        start = file.read(12)
    return start[4:8] == b'ftyp' and start[8:] in (b'heic', b'heix', b'heim', b'heis', b'hevc', b'mif1', b'msf1')


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _rgb(image: Image.Image) -> np.ndarray:
    _check_size(*image.size)
    if not all(image.size):
        raise ValueError(f'a picture of {image.width} x {image.height} has no pixels')
    if image.mode == 'F':
        raise ValueError('32-bit floating point: convert it to 8 bits')
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
    if isinstance(inputs, (str, Path)) and os.path.isdir(inputs):
        found = [
            str(path) for path in sorted(Path(inputs).iterdir()) if path.suffix.lower() in SUFFIXES or is_video(path)
        ]
        if not found:
            raise FileNotFoundError(f'{inputs}: no picture and no video is in this folder')
        return found
    if isinstance(inputs, str) and glob.has_magic(inputs) and not os.path.exists(inputs):
        found = sorted(glob.glob(inputs, recursive=True))
        if not found:
            raise FileNotFoundError(f'{inputs}: no file fits this pattern')
        return found
    return [inputs]


def read_images(sources: Iterable[object]) -> Iterator[tuple[object, np.ndarray | None, str | None]]:
    """Pictures one after another, of a video its frames: what it is of, (H, W, 3) uint8 RGB, and None.

    Where a picture cannot be read, or a video not further: what it is of, None, and why.
    """
    for source in sources:
        # True and False are numbers too.
        moving = type(source) is int or isinstance(source, (str, Path)) and is_video(source)
        try:
            if moving:
                for number, frame in enumerate(frames(source)):
                    yield f'{source}#{number}', np.ascontiguousarray(frame[..., ::-1]), None
            else:
                yield source, read_image(source), None
        except (OSError, ValueError) as error:
            yield source, None, str(error)
