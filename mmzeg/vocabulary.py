"""The vocabulary: class names in order, and which of them are unseen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from mmzeg.class_names import check_class_names, read_class_file
from mmzeg.registry import TASK_UTILS


@TASK_UTILS.register_module()
class Vocabulary:
    """Hold class names in order, and which of them are unseen. Immutable.

    Args:
        classes (list[str] | str): Class names, where "building, house" is one class with a synonym; or a text file
            with one class per line; or a JSON file with the lists ``seen`` and ``unseen`` (then in this order).
        unseen (list[str], optional): The unseen classes among them. Defaults to the JSON file's, else to none.
        prompts (str | list[str], optional): Prompt set or templates for these names. Defaults to the classifier's.
        allow_empty (bool): Whether there may be no class, as in the training of a model that knows none. Defaults to
            False.

    Raises:
        FileNotFoundError: ``classes`` is a string and no such file exists.
        ValueError: No class, unless ``allow_empty``; a name that is not a string, or has a line break, an empty synonym
            or a blank at an end; a class listed twice or both seen and unseen; an unseen class that is not among the
            classes; or a file of another form. Names the class, and the file if one was given.
    """

    def __init__(
        self,
        classes: Sequence[str] | str | Path,
        unseen: Sequence[str] | None = None,
        prompts: str | Sequence[str] | None = None,
        allow_empty: bool = False,
    ) -> None:
        origin = ''
        if isinstance(classes, (str, Path)):
            origin = f'{classes}: '
            classes, unseen_in_file = read_class_file(Path(classes))
            unseen = unseen_in_file if unseen is None else unseen
        self.names = check_class_names(classes, f'{origin}classes', allow_empty=allow_empty)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._unseen = frozenset(check_class_names(() if unseen is None else unseen, f'{origin}unseen'))
        unknown = sorted(self._unseen - self._index.keys())
        if unknown:
            raise ValueError(
                f'{origin}class {unknown[0]!r} is listed in unseen but not among the classes: add it there'
            )
        self.unseen = tuple(name for name in self.names if name in self._unseen)
        self.seen = tuple(name for name in self.names if name not in self._unseen)
        self.prompts = prompts if prompts is None or isinstance(prompts, str) else tuple(prompts)

    @classmethod
    def build(cls, vocabulary: Vocabulary | dict | Sequence[str]) -> Vocabulary:
        """Build a vocabulary from a config dict (with or without ``type``), or from a value of ``classes``.

        A ``Vocabulary`` is returned as it is.

        Raises:
            ValueError: The config lacks ``classes`` or has an unknown field; or as the constructor.
        """
        if isinstance(vocabulary, cls):
            return vocabulary
        if isinstance(vocabulary, dict):
            fields = {key: value for key, value in vocabulary.items() if key != 'type'}
            unknown = sorted(map(str, fields.keys() - {'classes', 'unseen', 'prompts'}))
            if unknown or 'classes' not in fields:
                problem = f'unknown field {unknown[0]!r}' if unknown else 'no field classes'
                raise ValueError(f'{problem} in the config of a vocabulary: it takes classes, unseen and prompts')
            return cls(**fields)
        return cls(vocabulary)

    @property
    def seen_mask(self) -> list[bool]:
        """Whether each class is seen, in order."""
        return [self.is_seen(name) for name in self.names]

    def index(self, name: str) -> int:
        """Return the position of a class; raise ValueError for an unknown class."""
        if name not in self._index:
            raise ValueError(f'class {name!r} is not in the vocabulary of {len(self)} classes')
        return self._index[name]

    def is_seen(self, name: str) -> bool:
        """Return whether a class was annotated in training; raise ValueError for an unknown class."""
        return self.names[self.index(name)] not in self._unseen

    def training(self) -> Vocabulary:
        """Return the vocabulary of the seen classes only, in order; raise ValueError if there is none."""
        if not self.seen:
            raise ValueError('every class is unseen, so there is nothing to train on: give a train_vocabulary')
        return Vocabulary(self.seen, prompts=self.prompts)

    def check_matches(self, names: Sequence[str], owner: str, unseen: Sequence[str] | None = None) -> None:
        """Check that another part of the run has the same classes in the same order.

        Args:
            names (Sequence[str]): Its class names.
            owner (str): What has them, for the error message: "the training dataset".
            unseen (Sequence[str], optional): Its unseen classes, in any order. None: not compared.

        Raises:
            ValueError: The lists differ; names the first class that differs.
        """
        names = check_class_names(names, f'the classes of {owner}')
        for position, (ours, theirs) in enumerate(zip_longest(self.names, names)):
            if ours != theirs:
                in_owner = 'missing' if theirs is None else repr(theirs)
                in_model = 'missing' if ours is None else repr(ours)
                raise ValueError(
                    f'class {position} is {in_owner} in {owner} but {in_model} in the model: give both the same list'
                )
        if unseen is None:
            return
        differing = set(check_class_names(unseen, f'the unseen classes of {owner}')) ^ set(self.unseen)
        if differing:
            name = min(differing)
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
