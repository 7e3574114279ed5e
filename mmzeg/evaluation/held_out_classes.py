"""Training classes that are evaluated as if unseen, so that settings are chosen without the unseen ones."""

import random
import re

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmzeg.utils.preflight import datasets_of, read_checkpoint
from mmzeg.vocabulary import Vocabulary


def held_out(vocabulary: Vocabulary, wanted: str, seed: int) -> list[str]:
    """The classes that ``--held-out`` asks for, in the vocabulary's order.

    Raises:
        ValueError: A name that is not a class, or nothing seen is left.
    """
    if wanted not in vocabulary.names and re.fullmatch(r'\d*\.?\d+', wanted):
        number, seen = float(wanted), len(vocabulary.seen)
        number = number if number >= 1 else round(number * seen)
        if not 1 <= number < seen or number % 1:
            raise ValueError(f'--held-out {wanted}: give a whole number below {seen} seen classes, or a share of them')
        names = random.Random(seed).sample(vocabulary.seen, int(number))
    else:
        # "sofa, couch" is one class.
        names = re.split(',(?! )', wanted)
    for name in names:
        vocabulary.index(name)
    if set(vocabulary.seen) <= set(names):
        raise ValueError('--held-out leaves no seen class: hold fewer out')
    return [name for name in vocabulary.names if name in names]


def hold_out(cfg: Config, data: str, names: list[str]) -> list[str]:
    """Make a config's unseen classes those of ``names`` and leave the other unseen ones out; returns the latter."""
    classifier = cfg.model.decode_head.classifier
    vocabulary = Vocabulary.build(classifier.vocabulary)
    left_out = [name for name in vocabulary.unseen if name not in names]
    kept = [name for name in vocabulary.names if name not in left_out]
    classifier.vocabulary = dict(classes=kept, unseen=names, prompts=vocabulary.prompts)
    for dataset in datasets_of(cfg[f'{data}_dataloader'].dataset):
        dataset.metainfo = dict(dataset.get('metainfo', {}), classes=kept, unseen_classes=names)
    return left_out


def trained_classes(cfg: Config, checkpoint: str) -> list[str]:
    """The classes that a checkpoint says it was trained on, else those that the config says.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: It is cut off.
    """
    fetched = '://' in checkpoint
    found = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', 'silent') if fetched else read_checkpoint(checkpoint)
    meta = found.get('meta', {}).get('dataset_meta') or {}
    classifier = cfg.model.decode_head.classifier
    train = classifier.get('train_vocabulary') or Vocabulary.build(classifier.vocabulary).training()
    return list(meta.get('classes') or Vocabulary.build(train).names)


def cautions(cfg: Config, data: str, chosen: list[str], before: Vocabulary, trained: list[str]) -> list[str]:
    """What these rows must not be used for, or only with care; ``before`` is the vocabulary before ``hold_out``."""
    found = []
    if before.unseen and not chosen:
        found.append(
            f'whoever chooses gamma or lambda by these rows tunes on the unseen classes themselves '
            f'({", ".join(before.unseen)}): report them, and choose with --held-out'
        )
    known = [name for name in chosen if name in trained]
    if known:
        found.append(
            f'this checkpoint was trained with labels of {", ".join(known)}: it names them better than it would an '
            'unseen class, so gamma and lambda tend to come out too small; choose with a model that was trained '
            'without them'
        )
    own = [name for name in chosen if name in before.unseen and name not in trained]
    if own:
        found.append(
            f'{", ".join(own)}: unseen in the config itself. Right if they are training classes that this training '
            'held out; by unseen classes of the benchmark nothing may be chosen'
        )
    pictures = [
        [{**dataset, 'metainfo': None, 'pipeline': None} for dataset in datasets_of(cfg[f'{name}_dataloader'].dataset)]
        for name in (data, 'test')
        if cfg.get(f'{name}_dataloader')
    ]
    if pictures[0] == pictures[-1]:
        found.append('these are the pictures of the test: choose by others, such as some of the training')
    return found
