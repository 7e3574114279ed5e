"""Class names: synonyms, checks, and the forms in which users give them (typed text, a command-line option, a file)."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Control characters, line and paragraph separators, and halves of surrogate pairs, which are no text.
UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


# A comma between synonyms. A blank before it is a part of the name: a published class list has "c p u , mainframe".
SYNONYM_COMMA = re.compile(', ?')


def split_synonyms(name: str) -> list[str]:
    """Return the synonyms of a class: "sofa, couch" or "sofa,couch" -> ["sofa", "couch"]."""
    return SYNONYM_COMMA.split(name)


def check_class_names(names: Sequence[str], label: str, allow_empty: bool = True) -> tuple[str, ...]:
    """Check a list of class names and return it as a tuple, with ", " between synonyms ("sofa,couch" -> "sofa, couch").

    Args:
        names (Sequence[str]): Class names.
        label (str): What the list is, for error messages.
        allow_empty (bool): Whether the list may have no name. Defaults to True.

    Raises:
        ValueError: Not a list of different, printable, non-empty strings; names the class and ``label``.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f'{label} must be a list of class names, got {names!r}')
    names = tuple(names)
    if not names and not allow_empty:
        raise ValueError(f'{label}: the vocabulary is empty: list at least one class name')
    checked = {}
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f'{label}: a class name must be a non-empty string, got {name!r}')
        if UNPRINTABLE.search(name):
            # "cat\n" is not the "cat" of training, and would be scored as unseen.
            raise ValueError(f'{label}: class {name!r:.60} has a line break or a control character: remove it')
        if name != name.strip() or not all(synonym.strip() for synonym in split_synonyms(name)):
            raise ValueError(f'{label}: class {name!r:.60} has an empty synonym or a blank at an end: remove it')
        name = SYNONYM_COMMA.sub(', ', name)
        if name in checked:
            raise ValueError(f'class {name!r} is listed twice in {label}: remove one of the two')
        checked[name] = None
    return tuple(checked)


def parse_class_names(text: str) -> list[str]:
    """Parse typed class names, one class per line, or ";" between them; "cat, kitten" is one class with a synonym."""
    names = []
    for entry in text.replace(';', '\n').splitlines():
        synonyms = [synonym.strip() for synonym in entry.split(',') if synonym.strip()]
        if synonyms:
            names.append(', '.join(synonyms))
    return names


def parse_classes_option(option: str | None, seen: Sequence[str] | None) -> dict:
    """Parse a ``--classes`` option into the arguments ``classes`` and ``seen`` of ``ZeroShotInferencer``.

    Args:
        option (str, optional): Names as in ``parse_class_names``, or a .txt or .json file as in ``read_class_file``.
        seen (Sequence[str], optional): The seen classes. Defaults to the .json file's.

    Returns:
        dict: ``classes`` (list[str] | None) and ``seen`` (Sequence[str] | None).

    Raises:
        FileNotFoundError: No such file.
        ValueError: No class name, a class listed twice, a file of another form or suffix, or only commas between the
            names.
    """
    if option is None:
        return dict(classes=None, seen=seen)
    if Path(option).suffix.lower() in ('.txt', '.json'):
        names, unseen = read_class_file(Path(option))
        if seen is None and unseen is not None:
            seen = [name for name in names if name not in unseen]
        return dict(classes=list(names), seen=seen)
    if Path(option).suffix and os.path.isfile(option):
        raise ValueError(
            f'--classes {option}: a file of class names ends with .txt (one class a line) or .json (the lists "seen" '
            'and "unseen"): convert it'
        )
    names = parse_class_names(option)
    if len(names) == 1 and ',' in names[0]:
        raise ValueError(f"--classes {option!r} is one class with synonyms: put ';' between classes")
    return dict(classes=list(check_class_names(names, 'classes', allow_empty=False)), seen=seen)


def read_class_file(path: Path) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Read class names from a file, and the unseen ones among them.

    Args:
        path (Path): A text file with one class per line, or a JSON file (.json) with the lists ``seen`` and ``unseen``.

    Returns:
        tuple: Class names (of a JSON file the seen ones first), and the unseen ones (None for a text file).

    Raises:
        FileNotFoundError: No such file.
        ValueError: No class name, a file of another form, a class listed twice or both seen and unseen.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file of class names; a list of names works as well')
    is_json = path.suffix.lower() == '.json'
    try:
        text = path.read_text(encoding='utf-8-sig')
        split = json.loads(text) if is_json else None
    except ValueError as error:
        raise ValueError(f'{path}: not a UTF-8 text or JSON file of class names ({error}): correct it') from error
    if not is_json:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return check_class_names(lines, f'{path}: classes', allow_empty=False), None
    if not isinstance(split, dict) or not all(isinstance(split.get(key), list) for key in ('seen', 'unseen')):
        raise ValueError(f'{path}: a JSON of classes needs the lists "seen" and "unseen"')
    seen = check_class_names(split['seen'], f'{path}: seen')
    unseen = check_class_names(split['unseen'], f'{path}: unseen')
    both = sorted(set(seen) & set(unseen))
    if both:
        raise ValueError(f'{path}: class {both[0]!r} is both seen and unseen: remove it from one')
    return check_class_names(seen + unseen, f'{path}: classes', allow_empty=False), unseen
