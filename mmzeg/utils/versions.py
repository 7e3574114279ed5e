"""Says at import, in one line, which package is missing or too old, and the command that mends it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.version import Version

# Distribution names (official, OneDL), the oldest release that works, the first of the official one that does not.
NEEDED = (
    (('mmengine', 'onedl-mmengine'), '0.10.0', None, 'pip install --no-deps mmengine'),
    (('mmcv', 'onedl-mmcv'), '2.0.0', '2.2.0', 'mim install "mmcv>=2.0.0,<2.2.0"'),
    (('mmsegmentation', 'onedl-mmsegmentation'), '1.2.0', None, 'pip install --no-deps "mmsegmentation>=1.2.0"'),
    (('mmdet', 'onedl-mmdetection'), '3.1.0', None, 'pip install --no-deps "mmdet>=3.1.0"'),
    (('scipy',), '1.7', None, 'pip install --no-deps scipy'),
    # With the versions that are there as requirements, so that pip cannot replace them on the way.
    (('open_clip_torch',), '3.0', None, 'pip install open_clip_torch "torch=={torch}" "torchvision=={torchvision}"'),
)


def check_dependencies() -> None:
    """Check what is installed, by its metadata alone.

    Raises:
        ImportError: The first package that is missing, too old or too new, with the version found and the mend.
    """
    torch, torchvision = _check_torch()
    for names, oldest, too_new, mend in NEEDED:
        name, found = _installed(names)
        mend = mend.format(torch=torch.public, torchvision=torchvision.public)
        if found is None:
            raise ImportError(f'mmzeg needs {names[0]} >= {oldest}, which is not installed: {mend}')
        # The upper limit is what mmseg 1.2 and mmdet 3.3 accept; OneDL's packages count on from there.
        if found < Version(oldest) or (too_new and name == names[0] and found >= Version(too_new)):
            limit = f'>= {oldest}' + (f', < {too_new}' if too_new else '')
            raise ImportError(f'mmzeg needs {name} {limit}, but {found} is installed: {mend}')
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


def _check_torch() -> tuple[Version, Version]:
    """Versions of torch and torchvision, once they and NumPy fit together."""
    torch, vision, numpy = (_installed((name,))[1] for name in ('torch', 'torchvision', 'numpy'))
    if torch is None or torch < Version('2.1'):
        found = 'it is not installed' if torch is None else f'{torch} is installed'
        raise ImportError(f'mmzeg needs torch >= 2.1, but {found}: see the PyTorch site for the command of your CUDA')
    if torch < Version('2.3') and numpy is not None and numpy.major > 1:
        raise ImportError(
            f'mmzeg needs numpy < 2 for torch {torch}, but {numpy} is installed: '
            'pip install "numpy<2" "opencv-python<4.12"'
        )
    # torchvision's releases have followed torch's, 15 minor numbers ahead, since torch 2.0.
    wanted = f'0.{torch.minor + 15}'
    if vision is None or (torch.major == 2 and (vision.major, vision.minor) != (0, torch.minor + 15)):
        found = 'none' if vision is None else vision
        raise ImportError(
            f'mmzeg needs torchvision {wanted} for torch {torch}, but {found} is installed: '
            f'pip install --no-deps "torchvision=={wanted}.*"'
        )
    return torch, vision
