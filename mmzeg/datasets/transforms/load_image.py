"""Load images as the inferencer does, with errors that name the file."""

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS
from PIL import Image

from mmzeg.utils.image_decoding import decode_image, is_plain_image


class LoadImageNamingFile(LoadImageFromFile):
    """Load an image as mmcv's ``LoadImageFromFile``; its errors name the file, which Pillow's and OpenCV's do not.

    Files that mmcv's decoders read wrongly or not at all are read by ``mmzeg.utils.image_decoding``, the inferencer's
    reader: 16 bits of grey (divided by 257), transparency (composited on white), GIF, AVIF, HEIC. All others are
    decoded by mmcv and ``imdecode_backend``, bit for bit as the published models' data.

    Raises:
        FileNotFoundError: As mmcv's.
        ValueError: Truncated or not an image; names the file.
    """

    def transform(self, results: dict) -> dict | None:
        path = results['img_path']
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            image = self._decode(content, path)
        except FileNotFoundError:
            if self.ignore_empty:
                return None
            raise
        except Image.DecompressionBombError as error:
            raise ValueError(f'{path}: too large ({error}): make it smaller first') from error
        except (OSError, SyntaxError, ValueError, cv2.error) as error:
            if self.ignore_empty:
                return None
            if str(error).startswith(str(path)):
                raise
            reason = f' ({error})' if isinstance(error, OSError) and 'BytesIO' not in str(error) else ''
            raise ValueError(f'{path}: truncated or not an image{reason}; make or download it again') from error

        # The fields that mmcv's transform sets
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        return results

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        """Decode a file's content: (H, W, 3) uint8 BGR, unless ``color_type`` says otherwise."""
        if self.color_type == 'color' and not is_plain_image(content):
            return np.ascontiguousarray(decode_image(content, path)[..., ::-1])
        image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        # OpenCV returns None for what it cannot read.
        if image is None:
            raise ValueError(f'{path}: truncated or not an image; make or download it again')
        # mmcv makes BGR of Pillow's RGB by a view with a negative stride, which every later transform copies slowly.
        if image.ndim == 3 and image.strides[2] < 0:
            image = cv2.cvtColor(image[..., ::-1], cv2.COLOR_RGB2BGR)
        return image


def register_image_loader() -> None:
    """Let every pipeline of this process load images by ``LoadImageNamingFile``.

    It is registered as ``LoadImageFromFile``, the name in configs and in mmseg's code. MMEngine's root stands for the
    scope ``mmcv`` too.
    """
    for registry in (MMENGINE_TRANSFORMS, MMSEG_TRANSFORMS):
        registry.register_module(name='LoadImageFromFile', module=LoadImageNamingFile, force=True)
