"""Decoding of images as RGB arrays: the one reader of datasets, the inferencer, the demo page and the ONNX runner.

``tools/deployment/export_onnx.py`` copies this file into the exported folder, so it imports neither mmzeg nor PyTorch.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

try:
    from pillow_heif import register_heif_opener
except ImportError:
    HEIC_READER = False
else:
    register_heif_opener()
    HEIC_READER = True

# Of formats that Pillow can open, not those that it can only write. It opens .mpo as JPEG.
IMAGE_SUFFIXES = frozenset(
    ['.mpo', *(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)]
)
# Pillow warns between half its limit and the limit, and of small damage, such as to EXIF. Not ignored at every image:
# Python's filters belong to the process, and threads that set and restore them would leave them changed.
warnings.filterwarnings('ignore', module=r'PIL\.')
# Formats and Pillow's modes that every decoder reads alike, if nothing is transparent.
PLAIN_FORMATS = ('JPEG', 'MPO', 'PNG', 'BMP', 'TIFF', 'PPM', 'WEBP', 'JPEG2000')
PLAIN_MODES = ('1', 'L', 'P', 'RGB', 'CMYK', 'YCbCr')


def read_image(source: str | Path | np.ndarray | Image.Image) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    Args:
        source: A file; an array (H, W, 3) or (H, W) uint8, BGR as in OpenCV; or a PIL image. Of an animation the first
            frame is read; transparency is composited on white; 16 bits become 8 (divided by 257, so 65535 is white).

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated or not an image; too large (Pillow's limit, 179 million pixels, for files, arrays and
            images alike); or an array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if not isinstance(source, (str, Path, Image.Image)):
        kind = type(source).__name__
        raise ValueError(f'{kind} is not an image: give a file, an array (H, W, 3) uint8 BGR, or a PIL image')
    if isinstance(source, Image.Image):
        return _decode(source, 'a PIL image')
    if not os.path.isfile(source):
        raise FileNotFoundError(f'{source}: no such file')
    return _decode(source, source)


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode the content of an image file as ``read_image`` does; ``name`` is for error messages."""
    return _decode(BytesIO(content), name)


def exif_orientation(image: Image.Image) -> int:
    """Return how a camera held an image, 1 to 8 (1: upright); 2, 4, 5 and 7 are mirrored, 5 to 8 swap the sides."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an open image after its EXIF orientation is applied, as ``read_image`` does."""
    return image.size[::-1] if exif_orientation(image) >= 5 else image.size


def is_plain_image(content: bytes) -> bool:
    """Return whether any decoder can be used for a file.

    False for what only ``decode_image`` reads as it looks: more than 8 bits, transparency, GIF, AVIF, HEIC. True for 8
    bits of RGB, grey, CMYK or a palette, and for files that Pillow does not read, of which OpenCV reads some.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            is_plain = image.format in PLAIN_FORMATS and image.mode in PLAIN_MODES
            return is_plain and not image.has_transparency_data
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return not _is_heic(BytesIO(content))
    except Exception:  # where bytes are damaged, Pillow's decoders raise errors of any kind
        return False


def _decode(source: str | Path | BytesIO | Image.Image, name: str | Path) -> np.ndarray:
    """Decode a file, its content or an open image; errors start with ``name``."""
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(source) as image:
            return _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name}: too large ({error}): make it smaller first') from error
    except UnidentifiedImageError as error:
        if _is_heic(source) and not HEIC_READER:
            raise ValueError(
                f'{name}: HEIC, which Pillow does not read by itself: pip install pillow-heif, or convert it'
            ) from error
        raise ValueError(f'{name}: truncated or not an image (a format that Pillow does not read)') from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{name}: truncated or not an image ({_first_line(error)})') from error
    except Exception as error:  # where bytes are damaged, Pillow's decoders raise errors of any kind
        raise ValueError(f'{name}: cannot be read ({_first_line(error)})') from error


def _from_array(array: np.ndarray) -> np.ndarray:
    """Return an array (H, W, 3) or (H, W) uint8 BGR as (H, W, 3) RGB."""
    has_image_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not has_image_shape or not array.size:
        raise ValueError(f'an array of {array.dtype} {array.shape}: give (H, W, 3) or (H, W) uint8, BGR')
    _check_size(*array.shape[1::-1])
    rgb = np.stack([array] * 3, -1) if array.ndim == 2 else array[..., ::-1]
    return np.ascontiguousarray(rgb)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Return a PIL image as (H, W, 3) uint8 RGB, upright."""
    _check_size(*image.size)
    if not all(image.size):
        raise ValueError(f'an image of {image.width} x {image.height} has no pixels')
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


def _check_size(width: int, height: int) -> None:
    """Apply Pillow's limit to images that are already open."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and width * height > 2 * limit:
        raise ValueError(f'an image of {width} x {height} is too large (more than {2 * limit} pixels): make it smaller')


def _is_heic(source: str | Path | BytesIO) -> bool:
    if isinstance(source, BytesIO):
        start = source.getvalue()[:12]
    else:
        with open(source, 'rb') as file:
            start = file.read(12)
    return start[4:8] == b'ftyp' and start[8:] in (b'heic', b'heix', b'heim', b'heis', b'hevc', b'mif1', b'msf1')


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
