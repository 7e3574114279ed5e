"""CLIP's tokenizers, and warnings about class names that OpenAI's tokenizer cannot read."""

import logging
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

import open_clip
from mmengine.logging import print_log
from torch import Tensor

from mmzeg.class_names import split_synonyms

_warned: set[str] = set()


@lru_cache
def get_tokenizer(model: str | None, context_length: int) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of an open_clip architecture; OpenAI's for None.

    Raises:
        ValueError: The tokenizer needs a missing package or files from the hub.
    """
    if model is None:
        return open_clip.SimpleTokenizer(context_length=context_length)
    try:
        return open_clip.get_tokenizer(model, context_length=context_length)
    except (ImportError, OSError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ValueError(
            f"{model}'s tokenizer needs the package transformers and its hub files ({reason}): "
            'pip install transformers sentencepiece, and fetch them once where the hub is in reach'
        ) from error


def warn_unreadable_names(
    names: Sequence[str], templates: Sequence[str], model: str | None, context_length: int
) -> None:
    """Log a warning, once for each name in a process, for names that are truncated or not in Latin letters.

    Args:
        names (Sequence[str]): Class names.
        templates (Sequence[str]): Prompt templates; the longest decides what is truncated.
        model (str, optional): Architecture with OpenAI's tokenizer; None: a file in OpenAI's names.
        context_length (int): Maximum number of tokens in a text, with its start and end.
    """
    limit = context_length - 2
    longest_template = max(templates, key=len)
    for name in names:
        if name in _warned:
            continue
        for synonym in split_synonyms(name):
            text = longest_template.replace('{}', synonym)
            # A token has at least one byte: most names need not be tokenized.
            if len(text.encode(errors='replace')) <= limit:
                continue
            num_tokens = len(get_tokenizer(model, context_length).encode(text))
            if num_tokens > limit:
                _warn(name, f'{num_tokens} tokens with its prompt, and CLIP reads the first {limit}: shorten it')
        if not all(_is_latin(letter) for letter in name):
            _warn(name, 'not all Latin letters, and this CLIP knows English: expect wrong masks, or translate it')


def _warn(name: str, reason: str) -> None:
    _warned.add(name)
    short_name = name if len(name) <= 40 else f'{name[:37]}...'
    print_log(f'class {short_name!r}: {reason}', 'current', logging.WARNING)


def _is_latin(letter: str) -> bool:
    """Return whether a character is neither a letter of another script nor a symbol such as an emoji."""
    if letter.isascii():
        return True
    is_foreign = letter.isalpha() and 'LATIN' not in unicodedata.name(letter, '')
    return not is_foreign and unicodedata.category(letter) != 'So'
