"""Read a published model: one safetensors file with weights and config."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mmengine.config import Config
from torch import Tensor

from mmzeg.publishing.allocation_limit import AllocationLimit
from mmzeg.publishing.config_check import check_published_config
from mmzeg.publishing.config_json import load_config_json
from mmzeg.publishing.encoder_files import map_encoders, unpack_encoder
from mmzeg.publishing.registered_only import registered_only
from mmzeg.utils.config_files import merge_options, read_config
from mmzeg.utils.error_messages import one_line
from mmzeg.utils.weight_files import read_metadata

SUFFIX = '.safetensors'


def is_published_model(model: str | Path) -> bool:
    """Return whether a model is given as the file of a published model, by its suffix."""
    return Path(model).suffix == SUFFIX


def read_model_config(model: str | Path, options: dict | None = None) -> Config:
    """Read the config of a model to segment with: a config file, a name in ``configs``, or a published model.

    Args:
        model (str | Path): The file, or the name.
        options (dict, optional): ``a.b`` -> value, changes as of ``--cfg-options``.

    Raises:
        FileNotFoundError, ValueError: As ``mmzeg.utils.config_files.read_config`` or ``read_published_config``.
    """
    return read_published_config(model, options) if is_published_model(model) else read_config(model, options)


def read_published_config(path: str | Path, options: dict | None = None) -> Config:
    """Read the config of a published model. It is data: no code that it names is imported or run.

    Args:
        path (str | Path): A file that ``mmzeg.publishing.publish.publish`` wrote.
        options (dict, optional): ``a.b`` -> value, changes as of ``--cfg-options``.

    Returns:
        Config: ``model``, with the files of its text encoders on this machine, and
        ``test_dataloader.dataset.pipeline``. Its ``filename`` is ``path``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated; no config in it; a config that could run code or read other files; or a missing file of
            a text encoder. Names the file and the field.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if 'config' not in metadata:
        raise ValueError(
            f'{path}: no published model, as it holds no config; give its config too, or write it by '
            'tools/model_converters/publish.py'
        )
    try:
        config = load_config_json(metadata['config'])
        check_published_config(config)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    # The options are the caller's: they may name any file.
    config = merge_options(Config(config), options, path).to_dict()
    try:
        config = map_encoders(config, partial(unpack_encoder, folder=path.parent))
    except (ValueError, OSError) as error:
        raise ValueError(f'{path}: {error}') from error
    # Without a text, MMEngine would read one from the file.
    return Config(config, cfg_text=metadata['config'], filename=str(path))


@contextmanager
def published_build(path: str | Path, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Within a ``with`` block, build the model of a published config.

    Memory is bounded, only registered classes are built, and errors name the file.

    Args:
        path (str | Path): The file that holds the config.
        state (Mapping[str, Tensor]): Its weights, which decide how large the model may be.

    Raises:
        ValueError: The model cannot be built.
    """
    # Building, and loading a checkpoint, take a few copies of the weights.
    num_values = 4 * sum(weight.numel() for weight in state.values()) + (1 << 24)
    try:
        with AllocationLimit(num_values), registered_only():
            yield
    # Constructors raise anything for arguments that they do not expect.
    except Exception as error:
        raise ValueError(f'{path}: its config builds no model ({type(error).__name__}: {one_line(error)})') from error
