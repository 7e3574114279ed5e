"""Settings of one inferencer call (class names, fusion, scorer); the defaults are the config's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from mmzeg.class_names import check_class_names
from mmzeg.models.fusion import ScoreFusion
from mmzeg.models.scorers import BaseScorer, build_scorer
from mmzeg.models.segmentors import ZegFormer
from mmzeg.vocabulary import Vocabulary


class CallSettings(NamedTuple):
    """The settings of one call."""

    vocabulary: Vocabulary
    fusion: ScoreFusion
    scorer: BaseScorer | None


def call_vocabulary(
    classes: Sequence[str] | None, seen: Sequence[str] | None, default: Vocabulary, trained: Vocabulary
) -> Vocabulary:
    """Return the vocabulary of a call.

    Args:
        classes (Sequence[str], optional): Class names. Defaults to those of ``default``.
        seen (Sequence[str], optional): The seen classes among them. Defaults to those of ``trained``.
        default (Vocabulary): The config's.
        trained (Vocabulary): The classes of the training.

    Raises:
        ValueError: No class, a class listed twice, or a name of ``seen`` that is not in ``classes``.
    """
    if isinstance(classes, str):
        raise ValueError(f'classes is one string, {classes[:40]!r}: give a list of names')
    names = default.names if classes is None else Vocabulary(classes).names
    if seen is None:
        seen_names = set(trained.names)
    else:
        seen_names = set(check_class_names(seen, 'seen'))
        unknown = seen_names - set(names)
        if unknown:
            raise ValueError(f'{min(unknown)!r} is listed in seen but not among the classes: add it there')
    return Vocabulary(names, unseen=[name for name in names if name not in seen_names])


class CallSettingsBuilder:
    """Build the settings of calls, and apply them to a model.

    Args:
        model (ZegFormer): Its current settings are the defaults.
        scorer (dict, optional): Config of the model's scorer.
    """

    def __init__(self, model: ZegFormer, scorer: dict | None) -> None:
        self.model = model
        self.defaults = CallSettings(model.vocabulary, model.fusion, model.scorer)
        self.train_vocabulary = model.decode_head.classifier.train_vocabulary
        self._scorer_config = scorer
        self._scorers: dict[str, BaseScorer] = {}

    def vocabulary(self, classes: Sequence[str] | None, seen: Sequence[str] | None) -> Vocabulary:
        """Return the vocabulary for ``classes``; without ``seen``, the training classes are seen.

        Raises:
            ValueError: No class, a class listed twice, or a name of ``seen`` that is not in ``classes``.
        """
        return call_vocabulary(classes, seen, self.defaults.vocabulary, self.train_vocabulary)

    def fusion(self, mode: str | None, lam: float | None, gamma: float | None) -> ScoreFusion:
        """Return the config's fusion with the given settings changed.

        Raises:
            ValueError: As in ``mmzeg.ScoreFusion``.
        """
        settings = dict(mode=mode, lam=lam, gamma=gamma)
        return replace(self.defaults.fusion, **{name: value for name, value in settings.items() if value is not None})

    def scorer(self, config: dict | None) -> BaseScorer | None:
        """Return the scorer of a config, built once; the model's for None."""
        if config is None:
            return self.defaults.scorer
        key = repr(config)
        if key not in self._scorers:
            self._scorers[key] = build_scorer(config, like=self._scorer_config)
        return self._scorers[key]

    @contextmanager
    def apply(self, settings: CallSettings) -> Iterator[None]:
        """Give the model other settings within a ``with`` block, and restore the defaults at its end."""
        try:
            self.model.set_vocabulary(settings.vocabulary)
            self.model.fusion = settings.fusion
            self.model.scorer = settings.scorer
            yield
        finally:
            self.model.set_vocabulary(self.defaults.vocabulary)
            self.model.fusion = self.defaults.fusion
            self.model.scorer = self.defaults.scorer
