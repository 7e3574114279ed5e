"""Turn an exception into one line: what is wrong with the input, or where the stack trace of another error is."""

import logging
import re
import tempfile
import traceback
from pathlib import Path

from mmengine.logging import MMLogger

_UNREGISTERED = re.compile(r'([^\s\'"`:]\S*) is not in the (?:\S+::)?(.+?) registry')
_UNKNOWN_FIELD = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_MISSING_FIELD = re.compile(r'(\w+)(?:\.__init__)?\(\) missing \d+ required [\w-]+ arguments?: (.+)')
_MISSING_TYPE = re.compile(r'must contain the key "type", but got (.+?)(?: None)?$')
# Methods of MMEngine's runner that call constructors with fields of the config, besides its build_functions.py.
_RUNNER_BUILDERS = ('build_dataloader', 'call_hook')


def bad_input_message(error: Exception) -> str | None:
    """Return what is wrong with the input in one line; None for an error that input does not explain."""
    text = one_line(error)
    # A type or a field of the config that does not exist.
    unregistered = _UNREGISTERED.search(text)
    if unregistered:
        name, registry = unregistered.groups()
        return f'{registry} {name!r} is not registered: correct this type, or name its module in custom_imports'
    untyped = _MISSING_TYPE.search(text)
    if untyped:
        return f'{untyped[1]} in the config has no type: add it'
    component = _failed_component(error)
    if component is not None:
        unknown = _UNKNOWN_FIELD.search(text)
        if unknown:
            return f'{unknown[1]} has no field {unknown[2]!r}: correct its name in the config'
        missing = _MISSING_FIELD.search(text)
        if missing:
            return f'{missing[1]} needs {missing[2]}: set it in the config'
        if isinstance(error, (AssertionError, KeyError)) and text:
            return f'{component}: {text}: correct its fields in the config'
    if isinstance(error, ImportError):
        return f'{text}: install it, or correct the name' if error.name else text
    if isinstance(error, (OSError, FloatingPointError, ValueError)):
        return text
    return None


def log_traceback(error: Exception) -> Path:
    """Append an error's stack trace to the log of the run, else to ``mmzeg_error.log``; return the file.

    That file is in the current folder, or in the system's temporary folder if the current one cannot be written.
    """
    text = ''.join(traceback.format_exception(error))
    path = _run_log() or Path('mmzeg_error.log').absolute()
    try:
        _append(path, text)
    except OSError:
        path = Path(tempfile.gettempdir(), 'mmzeg_error.log')
        _append(path, text)
    return path


def _append(path: Path, text: str) -> None:
    with path.open('a', encoding='utf-8') as file:
        file.write(text)


def one_line(error: Exception) -> str:
    """Return an error's message without line breaks; of an error in a data loader's worker, the error itself."""
    # The text of a KeyError is the repr of its message.
    is_key_error = isinstance(error, KeyError) and error.args and isinstance(error.args[0], str)
    text = (error.args[0] if is_key_error else str(error)).strip()
    if 'Original Traceback' in text:  # the last line is the worker's error
        text = text.splitlines()[-1].partition(': ')[2]
    return ' '.join(text.split())


def _failed_component(error: Exception) -> str | None:
    """Return the name of the class whose constructor refused its arguments while MMEngine built it from a config.

    None if anything but constructors that MMEngine called raised the error.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    component = 'a component'
    while frames and frames[-1].f_code.co_name == '__init__':
        component = type(frames.pop().f_locals.get('self')).__name__
    if not frames:
        return None
    builder, function = Path(frames[-1].f_code.co_filename).name, frames[-1].f_code.co_name
    is_builder = builder == 'build_functions.py' or (builder == 'runner.py' and function in _RUNNER_BUILDERS)
    return component if is_builder else None


def _run_log() -> Path | None:
    """Return the file that mmengine's current logger writes to; None if there is none."""
    if not MMLogger._instance_dict:
        return None
    handlers = MMLogger.get_current_instance().handlers
    paths = [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]
    return next((path for path in paths if path.parent.is_dir()), None)
