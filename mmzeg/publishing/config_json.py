"""A config as JSON, with its tuples."""

import json

from mmzeg.publishing.config_text import MAX_TEXT_LENGTH

# JSON has no tuples, but mmcv's transforms distinguish them from lists.
_TUPLE = '__tuple__'


def dump_config(config: dict) -> str:
    """Return a config as JSON, keys sorted; a tuple becomes ``{"__tuple__": [...]}``.

    Raises:
        ValueError: A key that is no text, or a value that is no data, such as a class; names the field.
    """
    return json.dumps(_encode(config, 'config'), allow_nan=False, sort_keys=True)


def load_config_json(text: str) -> dict:
    """Return the config that ``dump_config`` turned into JSON.

    Raises:
        ValueError: Too long, no JSON object, or nested too deeply.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f'the config has {len(text)} characters, more than {MAX_TEXT_LENGTH}')
    try:
        config = json.loads(text, object_hook=_decode)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'the config is no JSON that mmzeg writes ({type(error).__name__})') from error
    if not isinstance(config, dict):
        raise ValueError('the config is no JSON object')
    return config


def _encode(value: object, field: str) -> object:
    if isinstance(value, dict):
        strange = next((key for key in value if not isinstance(key, str)), None)
        if strange is not None:
            raise ValueError(f'{field}: the key {strange!r} is no text')
        return {key: _encode(item, f'{field}.{key}') for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f'{field}.{index}') for index, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f'{field}: a {type(value).__name__} is no plain data; give its registered name')


def _decode(fields: dict) -> object:
    if fields.keys() == {_TUPLE} and isinstance(fields[_TUPLE], list):
        return tuple(fields[_TUPLE])
    return fields
