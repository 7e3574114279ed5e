"""Build a scorer from its config."""

from mmzeg.models.scorers.base_scorer import BaseScorer
from mmzeg.models.scorers.clip_scorer import CLIPScorer
from mmzeg.registry import MODELS


def build_scorer(scorer: dict, like: dict | None = None) -> BaseScorer:
    """Build a scorer from its config.

    Args:
        scorer (dict): The config; ``type`` names a registered subclass of ``BaseScorer``.
        like (dict, optional): Another scorer's config. A scorer that uses CLIP takes ``clip`` and ``prompts`` from it
            where ``scorer`` does not give them.

    Raises:
        ValueError: ``type`` is missing, unknown, or not a subclass of ``BaseScorer``.
    """
    scorer = dict(scorer)
    kind = scorer.get('type')
    # Look the name up in the default scope, as MODELS.build does: a custom scorer may be in mmseg's registry.
    with MODELS.switch_scope_and_registry(None) as registry:
        cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise ValueError(
            f'scorer type {kind!r} is not registered: correct the name, or import its file by custom_imports'
        )
    if not (isinstance(cls, type) and issubclass(cls, BaseScorer)):
        raise ValueError(f'scorer {kind!r} must be a subclass of mmzeg.models.scorers.BaseScorer')
    if like is not None and issubclass(cls, CLIPScorer):
        scorer = {name: like[name] for name in ('clip', 'prompts') if name in like} | scorer
    return MODELS.build(scorer)
