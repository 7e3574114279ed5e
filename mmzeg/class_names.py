"""Class names as people type them, on a page or behind an option."""

from collections.abc import Sequence
from pathlib import Path

from mmzeg.vocabulary import Vocabulary


def parse_class_names(text: str) -> list[str]:
    """Names of one class a line, or of a list separated by ";"; "cat, kitten" is one class with a synonym."""
    parts = (part for line in text.splitlines() for part in line.split(';'))
    names = (', '.join(word.strip() for word in part.split(',') if word.strip()) for part in parts)
    return [name for name in names if name]


def parse_classes_option(option: str | None, seen: Sequence[str] | None) -> dict:
    """``classes`` and ``seen`` as ``ZeroShotInferencer`` takes them.

    Args:
        option (str, optional): Names as of ``parse_class_names``, or a .txt or .json file of ``mmzeg.Vocabulary``, which may
            say what is seen.
        seen (Sequence[str], optional): What is seen, whatever the file says.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No name, a class listed twice, a file of another form, or names with commas alone between them.
    """
    if option is None:
        return dict(classes=None, seen=seen)
    suffix = Path(option).suffix.lower()
    if suffix in ('.txt', '.json'):
        listed = Vocabulary(option)
        if seen is None and suffix == '.json':
            seen = list(listed.seen)
        return dict(classes=list(listed.names), seen=seen)
    names = parse_class_names(option)
    if len(names) == 1 and ',' in names[0]:
        raise ValueError(f"--classes {option!r} is one class with synonyms: put ';' between classes")
    return dict(classes=list(Vocabulary(names).names), seen=seen)
