"""Load images with errors that name the file."""

from mmcv.transforms import LoadImageFromFile
from mmseg.registry import TRANSFORMS


class LoadImageNamingFile(LoadImageFromFile):
    """Load an image as mmcv's ``LoadImageFromFile``; its errors name the file, which Pillow's and OpenCV's do not.

    Raises:
        FileNotFoundError: As mmcv's.
        ValueError: Truncated or not an image; names the file.
    """

    def transform(self, results: dict) -> dict | None:
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        # If OpenCV fails, mmcv raises an AssertionError.
        except (OSError, SyntaxError, ValueError, AssertionError) as error:
            reason = f' ({error})' if isinstance(error, OSError) and 'BytesIO' not in str(error) else ''
            raise ValueError(
                f'{results["img_path"]}: truncated or not an image{reason}; make or download it again'
            ) from error


def register_image_loader() -> None:
    """Let every pipeline of this process load images by ``LoadImageNamingFile``.

    It is registered as ``LoadImageFromFile``, the name in configs and in mmseg's code.
    """
    TRANSFORMS.register_module(name='LoadImageFromFile', module=LoadImageNamingFile, force=True)
