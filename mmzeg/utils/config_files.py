"""Read configs by file, or by the name of a file in ``configs``."""

from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

# In a wheel, and in a checkout.
_PACKAGE = Path(__file__).parents[1]
CONFIGS = next((path for path in (_PACKAGE / '.mim/configs', _PACKAGE.parent / 'configs') if path.is_dir()), None)


def list_models(pattern: str = '*') -> list[str]:
    """Return the names of all configs, sorted; each is a ``model`` of ``ZeroShotInferencer`` and a config of the tools.

    Args:
        pattern (str): Shell pattern of the names, such as ``zegformer_r50_*``. Defaults to all.
    """
    return sorted(path.stem for path in CONFIGS.glob(f'{pattern}.py')) if CONFIGS else []


def read_config(name: str | Path, options: dict | None = None) -> Config:
    """Read a config, and change it as ``--cfg-options`` says.

    Args:
        name (str | Path): A file, the name of one in ``configs``, or PACKAGE::FILE of an installed package's configs,
            such as ``mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py``.
        options (dict, optional): ``a.b`` -> value.

    Raises:
        FileNotFoundError: No such file or name.
        ValueError: The config does not run, or an option names a field that it cannot have.
    """
    # Find the file.
    path = _package_config(str(name)) if '::' in str(name) else Path(name)
    # OpenMIM gives the path of a file without suffix, which stands for a name (setup.py).
    if path.is_file() and not path.suffix:
        name = path.name
    if CONFIGS and not (path.is_file() and path.suffix):
        path = CONFIGS / f'{str(name).removesuffix(".py")}.py'
    if not path.is_file():
        raise FileNotFoundError(f'{name}: no such config file, nor a name of one in configs')
    if path.suffix == '.safetensors':
        raise ValueError(f'{path}: a model, and no config with data to read; the arguments are CONFIG {path}')
    # Run the config.
    try:
        cfg = Config.fromfile(path)
    # A config is a program: anything may be raised.
    except Exception as error:
        # MMEngine adds the folders of sys.path to the name of a module that it cannot import.
        text, separator, _ = str(error).partition(', the current sys.path is')
        hint = '; set PYTHONPATH to the folder of these modules' if separator else ''
        reason = f'{type(error).__name__}: {text}{hint}'
        raise ValueError(f'{path}: it, or a config that it is based on, cannot be read: {reason}') from error
    return merge_options(cfg, options, path)


def merge_options(cfg: Config, options: dict | None, path: Path) -> Config:
    """Change a config as ``--cfg-options`` says, and return it.

    Args:
        cfg (Config): Changed in place.
        options (dict, optional): ``a.b`` -> value.
        path (Path): The config's file, for the error message.

    Raises:
        ValueError: An option names a field that the config cannot have.
    """
    try:
        cfg.merge_from_dict(options or {})
    except (AttributeError, LookupError, TypeError) as error:
        # MMEngine does not name the option. If each one fits alone, one refers to a field that another replaced.
        misfits = [key for key, value in options.items() if not _fits(cfg, key, value)] or options
        raise ValueError(f'--cfg-options {" ".join(misfits)}: no such field in {path}: correct the name') from error
    return cfg


def _package_config(name: str) -> Path:
    """Return the file that PACKAGE::FILE names, in the folder of configs that OpenMMLab's packages install."""
    package, _, file = name.partition('::')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f'{name}: no package {package!r} is installed')
    return Path(spec.submodule_search_locations[0], '.mim/configs', file)


def _fits(cfg: Config, key: str, value: object) -> bool:
    try:
        cfg.copy().merge_from_dict({key: value})
    except (AttributeError, LookupError, TypeError):
        return False
    return True
