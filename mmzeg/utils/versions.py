"""Check the installed packages at import: one line says which one is missing or too old, and how to fix it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.version import Version

# Distribution names (official, OneDL), oldest supported release, first unsupported release of the official one, fix.
REQUIREMENTS = (
    (('mmengine', 'onedl-mmengine'), '0.10.0', None, 'pip install --no-deps mmengine'),
    (('mmcv', 'onedl-mmcv'), '2.0.0', '2.2.0', 'mim install "mmcv>=2.0.0,<2.2.0"'),
    (('mmsegmentation', 'onedl-mmsegmentation'), '1.2.0', None, 'pip install --no-deps "mmsegmentation>=1.2.0"'),
    (('mmdet', 'onedl-mmdetection'), '3.1.0', None, 'pip install --no-deps "mmdet>=3.1.0"'),
    (('scipy',), '1.7', None, 'pip install --no-deps scipy'),
    # The installed versions are requirements, so that pip cannot replace them.
    (('open_clip_torch',), '3.0', None, 'pip install open_clip_torch "torch=={torch}" "torchvision=={torchvision}"'),
)


def check_dependencies() -> None:
    """Check the installed packages by their metadata.

    Raises:
        ImportError: Names the first package that is missing, too old or too new, its version, and the command to run.
    """
    torch, torchvision = _check_torch()
    for names, oldest, too_new, fix in REQUIREMENTS:
        name, installed = _installed_version(names)
        fix = fix.format(torch=torch.public, torchvision=torchvision.public)
        if installed is None:
            raise ImportError(f'mmzeg needs {names[0]} >= {oldest}, which is not installed: {fix}')
        # The upper limit is what mmseg 1.2 and mmdet 3.3 accept; the numbers of OneDL's packages continue from there.
        if installed < Version(oldest) or (too_new and name == names[0] and installed >= Version(too_new)):
            limit = f'>= {oldest}' + (f', < {too_new}' if too_new else '')
            raise ImportError(f'mmzeg needs {name} {limit}, but {installed} is installed: {fix}')
    if find_spec('mmcv._ext') is None:
        raise ImportError(
            'mmzeg needs mmcv with its compiled ops, but mmcv has none: mim install --force-reinstall mmcv'
        )


def _installed_version(names: tuple[str, ...]) -> tuple[str, Version | None]:
    for name in names:
        try:
            return name, Version(version(name))
        except PackageNotFoundError:
            continue
    return names[0], None


def _check_torch() -> tuple[Version, Version]:
    """Check that torch, torchvision and NumPy fit together; return the versions of torch and torchvision."""
    _, torch = _installed_version(('torch',))
    _, torchvision = _installed_version(('torchvision',))
    _, numpy = _installed_version(('numpy',))
    if torch is None or torch < Version('2.1'):
        problem = 'it is not installed' if torch is None else f'{torch} is installed'
        raise ImportError(f'mmzeg needs torch >= 2.1, but {problem}: see the PyTorch site for the command of your CUDA')
    if torch < Version('2.3') and numpy is not None and numpy.major > 1:
        raise ImportError(
            f'mmzeg needs numpy < 2 for torch {torch}, but {numpy} is installed: '
            'pip install "numpy<2" "opencv-python<4.12"'
        )
    # Since torch 2.0, torchvision's minor release number is torch's plus 15.
    expected = (0, torch.minor + 15)
    if torchvision is None or (torch.major == 2 and (torchvision.major, torchvision.minor) != expected):
        installed = 'none' if torchvision is None else torchvision
        raise ImportError(
            f'mmzeg needs torchvision 0.{expected[1]} for torch {torch}, but {installed} is installed: '
            f'pip install --no-deps "torchvision==0.{expected[1]}.*"'
        )
    return torch, torchvision
