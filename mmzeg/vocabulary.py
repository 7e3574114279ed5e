"""What a class is: its name, its synonyms, and whether it was seen in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmzeg.registry import TASK_UTILS


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
        ValueError: No class, a class twice, or an unseen class that is not among the classes; names it.
    """

    def __init__(
        self,
        classes: Sequence[str] | str | Path,
        unseen: Sequence[str] | None = None,
        prompts: str | Sequence[str] | None = None,
    ) -> None:
        if isinstance(classes, (str, Path)):
            classes, unseen = _read(Path(classes), unseen)
        for name in classes:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f'a class name must be a non-empty string, got {name!r}')
        self.names = tuple(classes)
        if not self.names:
            raise ValueError('the vocabulary is empty: list at least one class name')
        self._index = {name: index for index, name in enumerate(self.names)}
        for group, label in ((self.names, 'classes'), (tuple(unseen or ()), 'unseen')):
            twice = [name for index, name in enumerate(group) if name in group[:index]]
            if twice:
                raise ValueError(f'class {twice[0]!r} is listed twice in {label}: remove one of the two')
        strangers = [name for name in unseen or () if name not in self._index]
        if strangers:
            raise ValueError(f'class {strangers[0]!r} is listed in unseen but is not among the classes: add it there')
        self.unseen = tuple(name for name in self.names if name in set(unseen or ()))
        self.seen = tuple(name for name in self.names if name not in set(self.unseen))
        self.prompts = prompts if prompts is None or isinstance(prompts, str) else tuple(prompts)

    @classmethod
    def build(cls, vocabulary: Vocabulary | dict | Sequence[str]) -> Vocabulary:
        """A vocabulary from itself, from a config dict (``type`` may be left out) or from what ``classes`` takes."""
        if isinstance(vocabulary, cls):
            return vocabulary
        if isinstance(vocabulary, dict):
            return cls(**{key: value for key, value in vocabulary.items() if key != 'type'})
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
        return self.names[self.index(name)] not in self.unseen

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
                raise ValueError(
                    f'class {position} is {theirs!r} in {owner} but {ours!r} in the model: give both the same list'
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


def _read(path: Path, unseen: Sequence[str] | None) -> tuple[list[str], Sequence[str] | None]:
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file of class names; a list of names works as well')
    if path.suffix != '.json':
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()], unseen
    split = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(split, dict) or not {'seen', 'unseen'} <= set(split):
        raise ValueError(f'{path}: a JSON of classes needs the lists "seen" and "unseen"')
    both = [name for name in split['seen'] if name in set(split['unseen'])]
    if both:
        raise ValueError(f'{path}: class {both[0]!r} is both seen and unseen: remove it from one')
    return [*split['seen'], *split['unseen']], split['unseen'] if unseen is None else unseen
