"""Everything that decides label maps, as data: an interrupted run is resumed only with the same settings."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

import mmzeg
from mmzeg.apis.call_settings import call_vocabulary
from mmzeg.clip.text_cache import content_hash
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.storage import Storage
from mmzeg.models.fusion import ScoreFusion
from mmzeg.publishing.encoder_files import FILE_FIELDS, fingerprint, map_encoders
from mmzeg.utils.config_files import read_config
from mmzeg.utils.run_checks import datasets_of
from mmzeg.utils.weight_files import NO_WEIGHTS
from mmzeg.vocabulary import Vocabulary

SETTINGS = 'settings.json'
CLASSES = 'classes.json'
# Values of pixels without a class, in label maps of 8 and of 16 bits.
IGNORE_INDEX = 255
IGNORE_INDEX_16_BIT = 65535


def collect_settings(cfg: Config, weights: str | None, options: LabelOptions, images: Storage) -> dict:
    """Return what decides the label maps of a run, as JSON data. No model is built.

    Args:
        cfg (Config): The model's config, or that of a published model.
        weights (str, optional): The checkpoint; None for a published model.
        options (LabelOptions): What the user chose.
        images (Storage): The folder of images.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A config without a model that segments by class names; or a bad class list or fusion setting.
    """
    try:
        classifier = cfg.model.decode_head.classifier
        default = Vocabulary.build(classifier.vocabulary)
        dataset, *_ = datasets_of(cfg.test_dataloader.dataset)
        pipeline = dataset.pipeline
    except AttributeError as error:
        raise ValueError(f'{cfg.filename}: not a config of mmzeg.ZegFormer or mmzeg.ProposalSegmentor') from error
    # Vocabulary and fusion: the config's, changed by the options.
    if classifier.get('train_vocabulary') is not None:
        trained = Vocabulary.build(classifier.train_vocabulary)
    else:
        # Masks of other models come without a training.
        has_training = 'ObjectnessClassifier' not in str(classifier.type)
        trained = Vocabulary(default.seen if has_training else [], allow_empty=True)
    vocabulary = call_vocabulary(options.classes, options.seen, default, trained)
    changes = dict(mode=options.mode, lam=options.lam, gamma=options.gamma)
    fields = {key: value for key, value in (cfg.model.get('fusion') or {}).items() if key != 'type'}
    fusion = ScoreFusion(**fields | {key: value for key, value in changes.items() if value is not None})
    model = _with_content(map_encoders(_plain(cfg.model), _with_fingerprint))
    scorer = model.pop('scorer', None)
    return dict(
        mmzeg=mmzeg.__version__,
        images=images.root,
        classes=list(vocabulary.names),
        seen=list(vocabulary.seen),
        mode=fusion.mode,
        lam=fusion.lam,
        gamma=fusion.gamma,
        ignore_below=options.ignore_below,
        min_area=options.min_area,
        save_scores=options.save_scores,
        # The sums of another device, or of batches of another size, may be rounded otherwise.
        batch_size=options.batch_size,
        device=str(options.device or get_device()).partition(':')[0],
        weights=_weights_identity(cfg, weights),
        scorer=scorer,
        config=dict(model=model, pipeline=_plain(pipeline)),
    )


def ignore_index(num_classes: int) -> int:
    """Return the value of pixels without a class: 255 in label maps of 8 bits, 65535 in those of more classes."""
    return IGNORE_INDEX if num_classes <= IGNORE_INDEX else IGNORE_INDEX_16_BIT


def read_settings(out: Storage) -> dict | None:
    """Return the settings of the earlier run in a folder; None if there was none.

    Raises:
        ValueError: They are damaged; or label maps without settings, which another program wrote.
    """
    path = out.path(SETTINGS)
    if not out.exists(SETTINGS):
        if next(out.list_files('annotations'), None) is not None:
            raise ValueError(f'{out}/annotations: label maps that tools/label.py did not write: give another folder')
        return None
    try:
        settings = json.loads(out.read(SETTINGS))
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f'{path}: damaged; remove {out} to label all images again, or give another folder')
    return settings


def check_same_settings(settings: dict, saved: dict, out: Storage) -> None:
    """Raise ValueError, naming the first setting that differs and both values, if the earlier run had others."""
    # Through JSON, as it has no tuples.
    settings = dict(_flat(json.loads(json.dumps(settings))))
    saved = dict(_flat(saved))
    for name in settings | saved:
        if settings.get(name) != saved.get(name):
            raise ValueError(
                f'{out}: {name} is {_short(settings.get(name))}, but was {_short(saved.get(name))} when the label maps '
                'here were made: start with the same arguments, or give another folder'
            )


def write_settings(settings: dict, out: Storage) -> None:
    """Write the settings, and before them what a reader of the label maps needs to know."""
    classes = dict(
        classes=settings['classes'],
        seen=settings['seen'],
        ignore_index=ignore_index(len(settings['classes'])),
        images=settings['images'],
    )
    out.write(CLASSES, json.dumps(classes, indent=1).encode())
    out.write(SETTINGS, json.dumps(settings, indent=1).encode())


def _weights_identity(cfg: Config, weights: str | None) -> str:
    """Return the SHA-256 of a checkpoint or a published model; a URL, and ``none``, stay."""
    path = weights or cfg.filename
    if path == NO_WEIGHTS or '://' in str(path):
        return str(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    return content_hash(Path(path))


def _with_fingerprint(encoder: dict) -> dict:
    """Return the config of a text encoder with its file named by content."""
    field = FILE_FIELDS[encoder['type']]
    if not Path(str(encoder.get(field))).is_file():
        return encoder
    return encoder | {field: fingerprint(encoder)}


def _with_content(value: object) -> object:
    """Return a config value in which files are named by their content, and a mask model's config by what it holds."""
    if isinstance(value, dict):
        if value.get('type') == 'mmzeg.ModelProposals':
            cfg = read_config(value['config'])
            read = {name: cfg.get(name) for name in ('model', 'data_preprocessor', 'default_scope')}
            value = value | dict(config=_plain(read))
        return {key: _with_content(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_content(item) for item in value]
    return content_hash(Path(value)) if isinstance(value, str) and os.path.isfile(value) else value


def _plain(value: object) -> object:
    """Return a config value as JSON data; what is none, such as a class, by its text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _flat(value: object, name: str = '') -> Iterator[tuple[str, object]]:
    """Yield the settings by name; those of the config as ``config.model.decode_head...``."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from _flat(item, f'{name}.{key}' if name else key)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f'{text[:197]}...'
