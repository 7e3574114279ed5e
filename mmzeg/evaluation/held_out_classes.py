"""Training classes that are evaluated as if unseen, to choose settings without the unseen classes."""

import random
import re

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmzeg.utils.preflight import datasets_of
from mmzeg.vocabulary import Vocabulary


def choose_held_out(vocabulary: Vocabulary, option: str, seed: int) -> list[str]:
    """Return the classes that a ``--held-out`` option selects, in the vocabulary's order.

    Args:
        vocabulary (Vocabulary): All classes.
        option (str): ``NAME,NAME``; a number of seen classes; or a fraction of the seen classes below 1.
        seed (int): Of the random choice, if the option is a number.

    Raises:
        ValueError: A name is not a class, or no seen class is left.
    """
    if option not in vocabulary.names and re.fullmatch(r'\d*\.?\d+', option):
        names = _draw_seen_classes(vocabulary, option, seed)
    else:
        # A comma and a space separate synonyms: "sofa, couch" is one class.
        names = re.split(',(?! )', option)
    for name in names:
        vocabulary.index(name)
    if set(vocabulary.seen) <= set(names):
        raise ValueError('--held-out leaves no seen class: hold fewer out')
    return [name for name in vocabulary.names if name in names]


def _draw_seen_classes(vocabulary: Vocabulary, option: str, seed: int) -> list[str]:
    num_seen = len(vocabulary.seen)
    number = float(option)
    if number < 1:
        number = round(number * num_seen)
    if not 1 <= number < num_seen or number % 1:
        raise ValueError(
            f'--held-out {option}: give a whole number below {num_seen} seen classes, or a fraction of them below 1'
        )
    return random.Random(seed).sample(vocabulary.seen, int(number))


def hold_out(cfg: Config, split: str, names: list[str]) -> list[str]:
    """Make ``names`` the only unseen classes of a config's model and dataset.

    Args:
        cfg (Config): Changed in place.
        split (str): ``val`` or ``test``, whose dataset is changed.
        names (list[str]): The new unseen classes.

    Returns:
        list[str]: The former unseen classes that are no longer evaluated.
    """
    classifier = cfg.model.decode_head.classifier
    vocabulary = Vocabulary.build(classifier.vocabulary)
    removed = [name for name in vocabulary.unseen if name not in names]
    remaining = [name for name in vocabulary.names if name not in removed]
    classifier.vocabulary = dict(classes=remaining, unseen=names, prompts=vocabulary.prompts)
    for dataset in datasets_of(cfg[f'{split}_dataloader'].dataset):
        dataset.metainfo = dict(dataset.get('metainfo', {}), classes=remaining, unseen_classes=names)
    return removed


def trained_classes(cfg: Config, checkpoint: str) -> list[str]:
    """Return the classes that a checkpoint lists as trained on, else those of the config.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: The checkpoint is truncated.
    """
    content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', 'silent')
    meta = content.get('meta', {}).get('dataset_meta') or {}
    classifier = cfg.model.decode_head.classifier
    train = classifier.get('train_vocabulary') or Vocabulary.build(classifier.vocabulary).training()
    return list(meta.get('classes') or Vocabulary.build(train).names)


def tuning_warnings(
    cfg: Config, split: str, held_out: list[str], original: Vocabulary, trained: list[str]
) -> list[str]:
    """Return warnings about choosing gamma or lambda by these results.

    Args:
        cfg (Config): The config that is evaluated.
        split (str): ``val`` or ``test``.
        held_out (list[str]): Classes that are evaluated as if unseen; empty if none.
        original (Vocabulary): The vocabulary before ``hold_out``.
        trained (list[str]): See ``trained_classes``.
    """
    warnings = []
    # The unseen classes of the benchmark decide.
    if original.unseen and not held_out:
        warnings.append(
            f'choosing gamma or lambda by these rows tunes on the unseen classes themselves '
            f'({", ".join(original.unseen)}): report these rows, and choose with --held-out'
        )
    # The model was trained on classes that count as unseen.
    trained_held_out = [name for name in held_out if name in trained]
    if trained_held_out:
        warnings.append(
            f'this checkpoint was trained with labels of {", ".join(trained_held_out)}: it classifies them better than '
            'an unseen class, so the best gamma and lambda tend to be too small; choose with a model that was trained '
            'without them'
        )
    # The config's own unseen classes were held out.
    unseen_held_out = [name for name in held_out if name in original.unseen and name not in trained]
    if unseen_held_out:
        warnings.append(
            f'{", ".join(unseen_held_out)}: unseen in the config itself. This is right if they are training classes '
            'that this training held out; never choose by unseen classes of the benchmark'
        )
    if _uses_test_images(cfg, split):
        warnings.append('these are the images of the test: choose by others, such as some training images')
    return warnings


def _uses_test_images(cfg: Config, split: str) -> bool:
    """Whether a split reads the same dataset as ``test``, apart from classes and pipeline."""

    def image_sources(name: str) -> list[dict]:
        datasets = datasets_of(cfg[f'{name}_dataloader'].dataset)
        return [{**dataset, 'metainfo': None, 'pipeline': None} for dataset in datasets]

    return bool(cfg.get('test_dataloader')) and image_sources(split) == image_sources('test')
