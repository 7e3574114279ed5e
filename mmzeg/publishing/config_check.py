"""Check the config of a published model before anything is built from it.

A config decides which classes are built and what they read, so that a config from another person can do harm: MMEngine
imports the module of any dotted ``type``, and some registered classes open the files that their arguments name. A
published config therefore has two fields, builds only the classes that networks are made of, and names no file except
those of the text encoder (``mmzeg.publishing.encoder_files``).
"""

import re
from collections.abc import Iterator

import mmdet.registry
import mmengine.registry
import mmseg.registry

import mmzeg.registry
from mmzeg.publishing.encoder_files import check_encoder, is_encoder

# Modules whose registered classes build networks and preprocess images, and read no file of their own accord.
BUILDING_BLOCKS = (
    'mmzeg.models',
    'mmzeg.datasets.transforms.resize',
    'mmseg.models.backbones',
    'mmseg.models.data_preprocessor',
    'mmseg.models.losses',
    'mmseg.models.necks',
    'mmseg.models.utils',
    'mmseg.datasets.transforms.formatting',
    'mmseg.datasets.transforms.transforms',
    'mmdet.models.backbones',
    'mmdet.models.layers',
    'mmdet.models.losses',
    'mmdet.models.necks',
    'mmdet.models.task_modules.assigners',
    'mmcv.cnn',
    'mmcv.ops',
    'mmcv.transforms.processing',
    'torch.nn',
)
# Among these modules, those whose classes load models, configs or masks by name or path.
LOADING_MODULES = (
    'mmseg.models.backbones.timm_backbone',
    'mmseg.models.backbones.vpd',
    'mmzeg.models.proposals',
)
_SCOPES = dict(mmzeg=mmzeg.registry, mmseg=mmseg.registry, mmdet=mmdet.registry, mmengine=mmengine.registry)
# Unscoped names are searched in the default scope, then in its parent.
_DEFAULT_SCOPES = ('mmseg', 'mmengine')
_KINDS = ('MODELS', 'TASK_UTILS', 'TRANSFORMS')
# Fields that import modules, load weights, or name files.
_REFUSED_FIELDS = ('custom_imports', 'init_cfg', 'pretrained', 'class_weight', 'cache_dir')
# Free text: class names and prompts. A single text there would be the name of a file.
_NAME_LISTS = ('classes', 'unseen')
_VOCABULARIES = ('vocabulary', 'train_vocabulary')
_PROMPTS = ('prompts', 'train_prompts', 'test_prompts')
# Other texts are options such as 'bilinear' or 'ViT-B-16'; without dots and slashes they are no path and no URL.
_OPTION = re.compile(r'[\w-]*', re.ASCII)
# Sides of images, in pixels, that a pipeline or a preprocessor may have; other numbers in them are colours or labels.
MAX_SIDE = 8192
_PIXEL_VALUES = ('mean', 'std', 'pad_val', 'seg_pad_val', 'ignore_index')


def check_published_config(config: dict) -> None:
    """Check that a config can be built without running code that it names.

    Args:
        config (dict): ``model``, and ``test_dataloader.dataset.pipeline``.

    Raises:
        ValueError: Another field; a ``type`` that is not a registered building block; a field that imports a module or
            names a file; a text that may be a path; or images of absurd sizes. Names the field.
    """
    pipeline = _only_field(_only_field(config.get('test_dataloader'), 'dataset'), 'pipeline')
    if config.keys() != {'model', 'test_dataloader'} or not isinstance(config['model'], dict) or pipeline is None:
        fields = sorted(config.keys() - {'model', 'test_dataloader'})
        problem = f'{fields[0]!a:.80} is refused' if fields else 'model or test_dataloader.dataset.pipeline is missing'
        raise ValueError(f'{problem}: a published config has model and test_dataloader.dataset.pipeline only')
    _check(config['model'], 'model')
    _check(pipeline, 'pipeline')
    _check_sizes(config['model'].get('data_preprocessor'), 'model.data_preprocessor')
    _check_sizes(pipeline, 'pipeline')


def _refusal(field: str, value: object, reason: str) -> ValueError:
    # Names and values are the file's: printable, and short.
    return ValueError(f'{ascii(field)[1:-1]:.120}={ascii(value):.80} is refused: {reason}; nothing of it was run')


def _only_field(fields: object, name: str) -> object:
    return fields[name] if isinstance(fields, dict) and fields.keys() == {name} else None


def _check(value: object, field: str) -> None:
    """Check a value and all values in it; ``field`` is its name in the config."""
    if isinstance(value, dict):
        if is_encoder(value):
            check_encoder(value, field)
            return
        # What is built first, then its arguments.
        for key in sorted(value, key=lambda key: key != 'type'):
            _check_field(key, value[key], f'{field}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f'{field}.{index}')
    elif isinstance(value, str) and not _OPTION.fullmatch(value):
        raise _refusal(field, value, 'it may be a path, a URL or a module')


def _check_field(key: str, value: object, field: str) -> None:
    if key in _REFUSED_FIELDS or key.startswith('_') or not key.isidentifier():
        raise _refusal(field, value, 'this field may import a module or read a file')
    if key == 'type':
        _check_type(value, field)
    elif key in _NAME_LISTS or (key in _VOCABULARIES and not isinstance(value, dict)):
        if value is not None and not _is_list_of_texts(value):
            raise _refusal(field, value, 'it is no list of class names')
    elif not (key in _PROMPTS and _is_list_of_texts(value)):
        _check(value, field)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _check_type(name: object, field: str) -> None:
    classes = list(registered_classes(name)) if isinstance(name, str) else []
    modules = [f'{getattr(registered, "__module__", "")}.' for registered in classes]
    allowed = tuple(f'{module}.' for module in BUILDING_BLOCKS)
    refused = tuple(f'{module}.' for module in LOADING_MODULES)
    if not modules or not all(module.startswith(allowed) and not module.startswith(refused) for module in modules):
        raise _refusal(field, name, 'it is no registered part of a network')


def registered_classes(name: str) -> Iterator[object]:
    """Yield what each registry builds for a ``type``, without MMEngine's look-up, which imports dotted names."""
    scope, _, key = name.rpartition('.')
    scopes = ([scope] if scope in _SCOPES else []) if scope else _DEFAULT_SCOPES
    for kind in _KINDS:
        for registries in (_SCOPES[scope] for scope in scopes):
            registry = getattr(registries, kind)
            registry.import_from_location()
            if key in registry.module_dict:
                yield registry.module_dict[key]
                break


def _check_sizes(value: object, field: str) -> None:
    """Raise ValueError where a number is larger than a side of an image."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in _PIXEL_VALUES:
                _check_sizes(item, f'{field}.{key}')
    elif isinstance(value, (int, float)) and not abs(value) <= MAX_SIDE:
        raise _refusal(field, value, f'images would have more than {MAX_SIDE} pixels a side')
