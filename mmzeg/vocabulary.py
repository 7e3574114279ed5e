"""What a class is: its name, its synonyms, and whether it was seen in training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmzeg.registry import TASK_UTILS

# Control characters, line and paragraph separators, and halves of surrogate pairs, which are no text.
UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


@TASK_UTILS.register_module()
class Vocabulary:
    """Class names in order, and which of them are unseen. Immutable.

    Args:
        classes (list[str] | str): Names, "building, house" being one class with a synonym; or a text file of
            one class a line; or a JSON file with the lists ``seen`` and ``unseen`` (then in this order).
        unseen (list[str], optional): The unseen among them. Defaults to the JSON's, else to none.
        prompts (str | list[str], optional): Prompt set or templates of these names; by default the classifier's.

    Raises:
        FileNotFoundError: ``classes`` is a string and no such file is there.
        ValueError: No class, a name that is no string, has a line break, an empty word or a blank at an end, a class
            twice or both seen and unseen, an unseen class that is not among the classes, or a file of another form;
            names the class, and the file if one was given.
    """

    def __init__(
        self,
        classes: Sequence[str] | str | Path,
        unseen: Sequence[str] | None = None,
        prompts: str | Sequence[str] | None = None,
    ) -> None:
        origin = ''
        if isinstance(classes, (str, Path)):
            origin = f'{classes}: '
            classes, unseen = _read(Path(classes), unseen)
        self.names = check_class_names(classes, f'{origin}classes')
        if not self.names:
            raise ValueError(f'{origin}the vocabulary is empty: list at least one class name')
        self._index = {name: index for index, name in enumerate(self.names)}
        self._unseen = frozenset(check_class_names(() if unseen is None else unseen, f'{origin}unseen'))
        strangers = sorted(self._unseen - self._index.keys())
        if strangers:
            raise ValueError(
                f'{origin}class {strangers[0]!r} is listed in unseen but not among the classes: add it there'
            )
        self.unseen = tuple(name for name in self.names if name in self._unseen)
        self.seen = tuple(name for name in self.names if name not in self._unseen)
        self.prompts = prompts if prompts is None or isinstance(prompts, str) else tuple(prompts)

    @classmethod
    def build(cls, vocabulary: Vocabulary | dict | Sequence[str]) -> Vocabulary:
        """A vocabulary from itself, from a config dict (``type`` may be left out) or from what ``classes`` takes."""
        if isinstance(vocabulary, cls):
            return vocabulary
        if isinstance(vocabulary, dict):
            fields = {key: value for key, value in vocabulary.items() if key != 'type'}
            strangers = sorted(map(str, fields.keys() - {'classes', 'unseen', 'prompts'}))
            if strangers or 'classes' not in fields:
                wrong = f'unknown field {strangers[0]!r}' if strangers else 'no field classes'
                raise ValueError(f'{wrong} in the config of a vocabulary: it takes classes, unseen and prompts')
            return cls(**fields)
        return cls(vocabulary)

    @property
    def seen_mask(self) -> list[bool]:
        """For every class in order, whether it is seen."""
        return [self.is_seen(name) for name in self.names]

    def index(self, name: str) -> int:
        """Position of a class; ValueError where there is no such class."""
        if name not in self._index:
            raise ValueError(f'class {name!r} is not in the vocabulary of {len(self)} classes')
        return self._index[name]

    def is_seen(self, name: str) -> bool:
        """Whether a class was labelled in training; ValueError where there is no such class."""
        return self.names[self.index(name)] not in self._unseen

    def synonyms(self, name: str) -> list[str]:
        """The words of a class: its name, split at ", " (reference, step 6)."""
        return self.names[self.index(name)].split(', ')

    def training(self) -> Vocabulary:
        """The seen classes alone, in order."""
        if not self.seen:
            raise ValueError('every class is unseen, so there is nothing to train on: give a train_vocabulary')
        return Vocabulary(self.seen, prompts=self.prompts)

    def check_matches(self, names: Sequence[str], owner: str, unseen: Sequence[str] | None = None) -> None:
        """Raise ValueError, naming the first class that differs, unless ``owner`` has these classes in this order."""
        for position in range(max(len(self), len(names))):
            ours = self.names[position] if position < len(self) else None
            theirs = names[position] if position < len(names) else None
            if ours != theirs:
                theirs, ours = ('missing' if name is None else repr(name) for name in (theirs, ours))
                raise ValueError(
                    f'class {position} is {theirs} in {owner} but {ours} in the model: give both the same list'
                )
        if unseen is not None and set(unseen) != set(self.unseen):
            name = sorted(set(unseen) ^ set(self.unseen))[0]
            raise ValueError(f'class {name!r} is unseen in only one of {owner} and the model: give both the same list')

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f'Vocabulary({len(self.seen)} seen, {len(self.unseen)} unseen)'

    def _key(self) -> tuple:
        return self.names, self.unseen, self.prompts


def check_class_names(names: Sequence[str], label: str) -> tuple[str, ...]:
    """The names as a tuple; ValueError, with the class and ``label``, where they are no list of different names."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f'{label} must be a list of class names, got {names!r}')
    names = tuple(names)
    met = set()
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f'{label}: a class name must be a non-empty string, got {name!r}')
        if UNPRINTABLE.search(name):
            # "cat\n" is not the "cat" of training, and would be scored as unseen.
            raise ValueError(f'{label}: class {name!r:.60} has a line break or a control character: remove it')
        if name != name.strip() or not all(word.strip() for word in name.split(', ')):
            raise ValueError(f'{label}: class {name!r:.60} has an empty word or a blank at an end: remove it')
        if name in met:
            raise ValueError(f'class {name!r} is listed twice in {label}: remove one of the two')
        met.add(name)
    return names


def _read(path: Path, unseen: Sequence[str] | None) -> tuple[list[str], Sequence[str] | None]:
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file of class names; a list of names works as well')
    try:
        text = path.read_text(encoding='utf-8-sig')
        split = json.loads(text) if path.suffix == '.json' else None
    except ValueError as error:
        raise ValueError(f'{path}: not a UTF-8 text or JSON file of class names ({error}): correct it') from error
    if path.suffix != '.json':
        return [line.strip() for line in text.splitlines() if line.strip()], unseen
    if not isinstance(split, dict) or not all(isinstance(split.get(part), list) for part in ('seen', 'unseen')):
        raise ValueError(f'{path}: a JSON of classes needs the lists "seen" and "unseen"')
    for part in ('seen', 'unseen'):
        check_class_names(split[part], f'{path}: {part}')
    both = sorted(set(split['seen']) & set(split['unseen']))
    if both:
        raise ValueError(f'{path}: class {both[0]!r} is both seen and unseen: remove it from one')
    return [*split['seen'], *split['unseen']], split['unseen'] if unseen is None else unseen
