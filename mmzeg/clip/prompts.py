"""Prompt sets: sentences that a class name is filled into before CLIP encodes it (docs/en/method.md#prompt-sets)."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path


@lru_cache
def _known_sets() -> dict[str, list[str]]:
    return json.loads(Path(__file__).with_name('prompts.json').read_text(encoding='utf-8'))


def get_templates(prompts: str | Sequence[str]) -> list[str]:
    """Return the prompt templates of a set, or of a list after checking it.

    Args:
        prompts (str | list[str]): ``single``, ``imagenet_select``, ``imagenet`` or ``imagenet_select_clip``; or
            templates.

    Raises:
        ValueError: An unknown set, an empty list, or a template without exactly one ``{}`` for the name.
    """
    if isinstance(prompts, str):
        if prompts not in _known_sets():
            raise ValueError(f'prompt set {prompts!r} is unknown: use one of {", ".join(_known_sets())}, or a list')
        return list(_known_sets()[prompts])
    if not prompts:
        raise ValueError('the list of prompt templates is empty: "{}" alone gives the bare class name')
    for template in prompts:
        if template.count('{}') != 1:
            raise ValueError(f'prompt template {template!r} needs one {{}} where the class name goes')
    return list(prompts)
