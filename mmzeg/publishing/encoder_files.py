"""The files of a published config's text encoders: named by file and content, and looked up where it is loaded."""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mmzeg.clip import CLIP
from mmzeg.clip.text_cache import content_hash
from mmzeg.utils.config_files import CONFIGS

# Text encoders, each with the field that names its file.
FILE_FIELDS = {'mmzeg.CLIP': 'pretrained', 'mmzeg.EmbeddingFile': 'path'}
_FIELDS = {'mmzeg.CLIP': {'type', 'model', 'pretrained', 'precision'}, 'mmzeg.EmbeddingFile': {'type', 'path'}}
# A file of mmzeg's configs, or any other file.
_REFERENCES = ({'configs_file', 'fingerprint'}, {'file', 'fingerprint'})
_OPTION = re.compile(r'[\w-]*', re.ASCII)


def is_encoder(value: object) -> bool:
    """Return whether a config value is the config of a text encoder."""
    return isinstance(value, dict) and isinstance(value.get('type'), str) and value['type'] in FILE_FIELDS


def map_encoders(value: object, change: Callable[[dict], dict]) -> object:
    """Return a copy of a config value in which ``change`` has replaced the config of every text encoder."""
    if is_encoder(value):
        return change(value)
    if isinstance(value, dict):
        return {key: map_encoders(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_encoders(item, change) for item in value)
    return value


def fingerprint(encoder: dict) -> str:
    """Return what identifies the weights of a text encoder's config, as ``CLIP.fingerprint`` does."""
    if encoder['type'] == 'mmzeg.CLIP':
        return CLIP(encoder['pretrained'], encoder.get('model')).fingerprint()
    return content_hash(Path(encoder['path']))


def pack_encoder(encoder: dict) -> dict:
    """Return a text encoder's config whose file is named by a reference, as a published config has it.

    A file of mmzeg's configs is named relative to them, whatever copy of it the config names. Other files keep their
    path. Tags of a hub stay.

    Raises:
        FileNotFoundError: Neither a file nor a tag.
    """
    field = FILE_FIELDS[encoder['type']]
    encoder = {key: value for key, value in encoder.items() if key in _FIELDS[encoder['type']]}
    path = Path(encoder[field])
    if not path.is_file():
        # A tag, or an error.
        if encoder['type'] != 'mmzeg.CLIP':
            raise FileNotFoundError(f'{path}: no such embedding file')
        CLIP(encoder[field], encoder.get('model'))
        return encoder
    identity = fingerprint(encoder)
    for copy in CONFIGS.rglob(path.name) if CONFIGS else ():
        if fingerprint(encoder | {field: str(copy)}) == identity:
            reference = dict(configs_file=copy.relative_to(CONFIGS).as_posix())
            break
    else:
        reference = dict(file=str(path))
    return encoder | {field: dict(reference, fingerprint=identity)}


def check_encoder(encoder: dict, field: str) -> None:
    """Check the config of a text encoder of a published model.

    Raises:
        ValueError: A field that it does not need, or a file that is not named by a reference; names the field.
    """
    file_field = FILE_FIELDS[encoder['type']]
    unknown = sorted(encoder.keys() - _FIELDS[encoder['type']])
    if unknown or file_field not in encoder:
        raise ValueError(f'{field}.{str(unknown[0] if unknown else file_field)!a:.80} is refused or missing')
    for key, value in encoder.items():
        is_reference = key == file_field and _is_reference(value)
        # A text without dots and slashes: a tag or an architecture.
        is_option = key != 'path' and (value is None or (isinstance(value, str) and _OPTION.fullmatch(value)))
        if not (key == 'type' or is_reference or is_option):
            raise ValueError(f'{field}.{key}={value!a:.80} is refused: it is no reference to a file, and no tag')


def unpack_encoder(encoder: dict, folder: Path) -> dict:
    """Return a text encoder's config with the path of its file on this machine.

    The file is looked for in mmzeg's configs or, by its name, next to the published model, then by its path.

    Args:
        encoder (dict): A checked config.
        folder (Path): The folder of the published model.

    Raises:
        ValueError: There is no such file, or it has another content.
    """
    field = FILE_FIELDS[encoder['type']]
    reference = encoder[field]
    if not isinstance(reference, dict):
        return encoder
    if 'configs_file' in reference:
        name = reference['configs_file']
        candidates = [CONFIGS / name] if CONFIGS else []
    else:
        name = reference['file']
        candidates = [folder / Path(name).name, Path(name)]
    paths = [path for path in candidates if path.is_file()]
    for path in paths:
        unpacked = encoder | {field: str(path)}
        if fingerprint(unpacked) == reference['fingerprint']:
            return unpacked
    problem = f'{paths[0]} has another content' if paths else 'there is no such file'
    raise ValueError(
        f'its text encoder reads {name!a:.200} with fingerprint {reference["fingerprint"]!a:.200}, but {problem}: put '
        f'that file into {folder.absolute()}'
    )


def _is_reference(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() not in _REFERENCES:
        return False
    if not all(isinstance(item, str) for item in value.values()):
        return False
    # Within mmzeg's configs.
    path = PurePosixPath(value.get('configs_file', ''))
    return not path.is_absolute() and '..' not in path.parts
