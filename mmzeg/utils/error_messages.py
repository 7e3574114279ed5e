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


def bad_input_message(error: Exception) -> str | None:
    """Return what is wrong with the input in one line; None for an error that input does not explain."""
    text = one_line(error)
    # A type or a field of the config that does not exist.
    unregistered = _UNREGISTERED.search(text)
    if unregistered:
        name, registry = unregistered.groups()
        return f'{registry} {name!r} is not registered: correct this type, or name its module in custom_imports'
    if isinstance(error, TypeError) and _is_raised_by_arguments(error):
        unknown = _UNKNOWN_FIELD.search(text)
        if unknown:
            return f'{unknown[1]} has no field {unknown[2]!r}: correct its name in the config'
        missing = _MISSING_FIELD.search(text)
        if missing:
            return f'{missing[1]} needs {missing[2]}: set it in the config'
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


def _is_raised_by_arguments(error: TypeError) -> bool:
    """Return whether mmengine's builder, or only constructors that it called, raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    while frames and frames[-1].name == '__init__':
        frames.pop()
    return bool(frames) and Path(frames[-1].filename).name == 'build_functions.py'


def _run_log() -> Path | None:
    """Return the file that mmengine's current logger writes to; None if there is none."""
    if not MMLogger._instance_dict:
        return None
    handlers = MMLogger.get_current_instance().handlers
    paths = [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]
    return next((path for path in paths if path.parent.is_dir()), None)
