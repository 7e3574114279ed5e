"""Says at import, in one line, which package is missing or too old, and the command that mends it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.version import Version

# Distribution names (official, OneDL), the oldest release that works, the first of the official one that does not.
NEEDED = (
    (('torch',), '2.1', None, 'see the PyTorch site for the command of your CUDA'),
    (('mmengine', 'onedl-mmengine'), '0.10.0', None, 'pip install --no-deps mmengine'),
    (('mmcv', 'onedl-mmcv'), '2.0.0', '2.2.0', 'mim install "mmcv>=2.0.0,<2.2.0"'),
    (('mmsegmentation', 'onedl-mmsegmentation'), '1.2.0', None, 'pip install --no-deps "mmsegmentation>=1.2.0"'),
    (('mmdet', 'onedl-mmdetection'), '3.1.0', None, 'pip install --no-deps "mmdet>=3.1.0"'),
    (('scipy',), '1.7', None, 'pip install --no-deps scipy'),
    (('open_clip_torch',), '2.24', None, 'pip install --no-deps open_clip_torch timm huggingface_hub'),
)


def check_dependencies() -> None:
    """Check what is installed, by its metadata alone.

    Raises:
        ImportError: The first package that is missing, too old or too new, with the version found and the mend.
    """
    for names, oldest, too_new, mend in NEEDED:
        name, found = _installed(names)
        if found is None:
            raise ImportError(f'mmzeg needs {names[0]} >= {oldest}, which is not installed: {mend}')
        # The upper limit is what mmseg 1.2 and mmdet 3.3 accept; OneDL's packages count on from there.
        if found < Version(oldest) or (too_new and name == names[0] and found >= Version(too_new)):
            limit = f'>= {oldest}' + (f', < {too_new}' if too_new else '')
            raise ImportError(f'mmzeg needs {name} {limit}, but {found} is installed: {mend}')
    _check_torchvision()
    if find_spec('mmcv._ext') is None:
        raise ImportError(
            'mmzeg needs mmcv with its compiled ops, but mmcv has none: mim install --force-reinstall mmcv'
        )


def _installed(names: tuple[str, ...]) -> tuple[str, Version | None]:
    for name in names:
        try:
            return name, Version(version(name))
        except PackageNotFoundError:
            continue
    return names[0], None


def _check_torchvision() -> None:
    torch, vision = _installed(('torch',))[1], _installed(('torchvision',))[1]
    if torch.major != 2:
        return
    # torchvision's releases have followed torch's, 15 minor numbers ahead, since torch 2.0.
    wanted = f'0.{torch.minor + 15}'
    if vision is None or (vision.major, vision.minor) != (0, torch.minor + 15):
        found = 'none' if vision is None else vision
        raise ImportError(
            f'mmzeg needs torchvision {wanted} for torch {torch}, but {found} is installed: '
            f'pip install --no-deps "torchvision=={wanted}.*"'
        )
