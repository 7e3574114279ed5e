"""Pictures that cannot be read are named."""

from mmcv.transforms import LoadImageFromFile
from mmseg.registry import TRANSFORMS


class NamedImage(LoadImageFromFile):
    """``LoadImageFromFile`` whose errors say which file; Pillow's say only that one is cut off.

    Raises:
        FileNotFoundError: As mmcv's.
        ValueError: Not a whole image; names the file.
    """

    def transform(self, results: dict) -> dict | None:
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        # OpenCV's failure is an assertion of mmcv.
        except (OSError, SyntaxError, ValueError, AssertionError) as error:
            reason = f' ({error})' if isinstance(error, OSError) and 'BytesIO' not in str(error) else ''
            raise ValueError(f'{results["img_path"]}: not a whole image{reason}: make or download it again') from error


def name_unreadable_images() -> None:
    """Let every pipeline of this process read pictures by it, under the name that configs and mmseg's own code know."""
    TRANSFORMS.register_module(name='LoadImageFromFile', module=NamedImage, force=True)
