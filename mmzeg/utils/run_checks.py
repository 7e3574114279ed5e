"""Check fields of a config that fit together badly: training loop, validation, windows, and the ignored label value.

Each mistake would otherwise show at the first validation, after the last iteration, or only in the results.
"""

from collections.abc import Iterable, Iterator, Mapping
from inspect import signature

from mmseg.registry import DATASETS, OPTIMIZERS

from mmzeg.datasets.transforms.loaders import loads_labels
from mmzeg.registry import MODELS

# What ``ZeroShotMIoU`` returns.
METRIC_KEYS = ('seen_mIoU', 'unseen_mIoU', 'hIoU', 'mIoU', 'aAcc', 'mAcc')
# Transforms that fill label maps, and the field of the value; mmcv's Pad takes ``pad_val=dict(img=..., seg=...)``.
_FILL_FIELDS = dict(RandomRotate='seg_pad_val', RandomMosaic='seg_pad_val')
# mmseg's crops count classes without this value.
_IGNORING_TRANSFORMS = ('RandomCrop',)
_DEFAULT_IGNORE_INDEX = 255


def check_run(cfg: Mapping, dataloaders: Iterable[str]) -> None:
    """Check the fields that decide how a run goes; the default scope must be set.

    Args:
        cfg (Config): A complete config.
        dataloaders (Iterable[str]): The fields of ``cfg`` whose datasets will be read.

    Raises:
        ValueError: Epochs over an infinite sampler, an unknown optimizer, ``val_interval`` below 1, unknown
            ``save_best``, windows without a size or with gaps, a ``CLIPBackbone`` with another normalization than
            CLIP's, ``reduce_zero_label`` with label values, or ignored values that differ. Names the field and the
            remedy.
    """
    dataloaders = [field for field in dataloaders if cfg.get(field)]
    if 'train_dataloader' in dataloaders:
        _check_train_loop(cfg)
        _check_save_best(cfg)
        _check_optimizer(cfg)
    _check_windows(cfg.get('model') or {})
    _check_clip_backbone(cfg.get('model') or {})
    for field in dataloaders:
        for dataset in datasets_of(cfg[field].get('dataset') or {}):
            _check_zero_label(dataset, field)
            _check_ignore_index(cfg, field, dataset)


def datasets_of(dataset: dict) -> list[dict]:
    """Return the configs of the datasets that a dataset config concatenates or wraps, else the config itself."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner:
        return [dataset]
    return [leaf for child in inner for leaf in datasets_of(child)]


def config_children(field: object) -> Iterable[object]:
    """Return the values of a config's dict, list or tuple; nothing for other fields."""
    if isinstance(field, Mapping):
        return field.values()
    return field if isinstance(field, (list, tuple)) else ()


def _type_name(config: Mapping | None) -> str:
    """Return a config's ``type`` without its scope; a class may stand there too."""
    kind = (config or {}).get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _check_train_loop(cfg: Mapping) -> None:
    train_cfg = cfg.get('train_cfg') or {}
    # mmengine takes by_epoch in place of a type.
    is_by_epoch = _type_name(train_cfg) == 'EpochBasedTrainLoop' or train_cfg.get('by_epoch') is True
    if is_by_epoch and _type_name(cfg['train_dataloader'].get('sampler')) == 'InfiniteSampler':
        raise ValueError(
            'train_cfg: EpochBasedTrainLoop never ends an epoch with the InfiniteSampler of train_dataloader; set '
            "train_dataloader.sampler.type='DefaultSampler', or train_cfg=dict(type='IterBasedTrainLoop', max_iters=N)"
        )
    interval = train_cfg.get('val_interval', 1)
    if cfg.get('val_dataloader') and (not isinstance(interval, int) or interval < 1):
        raise ValueError(
            f'train_cfg.val_interval={interval}: give 1 or more; for a training without validation set val_dataloader, '
            'val_cfg and val_evaluator to None'
        )


def _check_save_best(cfg: Mapping) -> None:
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    save_best = checkpoint.get('save_best')
    evaluator = cfg.get('val_evaluator')
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    # The keys of other metrics are not known here.
    if not save_best or any(_type_name(metric) != 'ZeroShotMIoU' for metric in metrics):
        return
    prefixes = [metric.get('prefix') for metric in metrics]
    keys = ['auto', *(f'{prefix}/{key}' if prefix else key for prefix in prefixes for key in METRIC_KEYS)]
    for key in [save_best] if isinstance(save_best, str) else save_best:
        if key not in keys:
            raise ValueError(
                f'default_hooks.checkpoint.save_best={key!r}: val_evaluator has no such result; give one of '
                f'{", ".join(keys)}'
            )


def _check_optimizer(cfg: Mapping) -> None:
    # mmengine's constructors call a missing optimizer: "None is not a callable object".
    kind = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise ValueError(
            f'optim_wrapper.optimizer.type={kind!r}: not registered; correct it, or name its module in custom_imports'
        )


def _check_windows(model: Mapping) -> None:
    # Test-time augmentation wraps the model.
    model = model.get('module') or model
    test_cfg = model.get('test_cfg') or {}
    if test_cfg.get('mode') != 'slide':
        return
    crop_size = _sides(test_cfg.get('crop_size'))
    stride = _sides(test_cfg.get('stride'))
    for name, sides in (('crop_size', crop_size), ('stride', stride)):
        if sides is None:
            raise ValueError(
                f"model.test_cfg: mode='slide' needs {name}=(height, width) in pixels, {test_cfg.get(name)} is given; "
                f"set it, or mode='whole'"
            )
    if stride[0] > crop_size[0] or stride[1] > crop_size[1]:
        raise ValueError(
            f'model.test_cfg.stride={stride} is larger than crop_size={crop_size}: pixels between windows would get no '
            'class; set a smaller stride'
        )


def _check_clip_backbone(model: Mapping) -> None:
    # mmseg's own segmentors do not compare a backbone with the data preprocessor.
    model = model.get('module') or model
    if _type_name(model.get('backbone')) == 'CLIPBackbone':
        preprocessor = MODELS.build(model.get('data_preprocessor') or dict(type='SegDataPreProcessor'))
        MODELS.build(model['backbone']).check_normalization(preprocessor)


def _sides(value: object) -> tuple[int, int] | None:
    """Return a (height, width) of positive integers; None for anything else."""
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return tuple(value) if is_pair and all(isinstance(side, int) and side > 0 for side in value) else None


def _check_zero_label(dataset: Mapping, field: str) -> None:
    labels = dataset.get('labels')
    is_listed = isinstance(labels, Mapping) or (
        isinstance(labels, (list, tuple)) and not all(isinstance(label, str) for label in labels)
    )
    if _type_name(dataset) == 'FolderDataset' and dataset.get('reduce_zero_label') and is_listed:
        raise ValueError(
            f'{field}.dataset.reduce_zero_label=True would subtract 1 from the values that labels lists, so that every '
            'class is misnamed; remove it, and leave 0 out of labels or add it to void'
        )


def _check_ignore_index(cfg: Mapping, field: str, dataset: Mapping) -> None:
    """Compare a dataset's ignored value with every other field that holds it."""
    expected = _dataset_ignore_index(dataset)
    if expected is None:
        return
    is_training = field == 'train_dataloader'
    if is_training:
        values = _training_ignore_indices(cfg.get('model') or {})
    else:
        values = _metric_ignore_indices(cfg, field.replace('dataloader', 'evaluator'))
    pipeline = dataset.get('pipeline') or ()
    name = f'{field}.dataset.pipeline'
    # Transforms before the loading of labels do not change them.
    first = next((index + 1 for index, transform in enumerate(pipeline) if loads_labels(transform)), 0)
    if first or is_training:
        later = {str(index): transform for index, transform in enumerate(pipeline) if index >= first}
        values = [*values, *_pipeline_ignore_indices(later, name)]
    for name, value in values:
        if value != expected:
            raise ValueError(
                f'{name} is {value}, but pixels without a class have the value {expected} in {field}.dataset '
                '(ignore_index): set both to the same value'
            )


def _dataset_ignore_index(dataset: Mapping) -> int | None:
    """Return the ignored value of a dataset; None if its class has none, or cannot be told from the config."""
    if 'ignore_index' in dataset:
        return dataset['ignore_index']
    kind = dataset.get('type')
    dataset_class = DATASETS.get(kind) if isinstance(kind, str) else kind
    if dataset_class is None:
        return None
    parameter = signature(dataset_class.__init__).parameters.get('ignore_index')
    if parameter is not None:
        return parameter.default
    # mmseg's datasets and mmzeg's pass other arguments on to mmseg's BaseSegDataset.
    is_known = dataset_class.__module__.startswith(('mmseg.', 'mmzeg.'))
    return _DEFAULT_IGNORE_INDEX if is_known else None


def _training_ignore_indices(model: Mapping) -> Iterator[tuple[str, int]]:
    """Yield the ignored values of head and preprocessor, each with its field."""
    head = model.get('decode_head')
    if isinstance(head, Mapping):
        yield 'model.decode_head.ignore_index', head.get('ignore_index', _DEFAULT_IGNORE_INDEX)
    preprocessor = model.get('data_preprocessor') or {}
    # Batches are padded only where a size is set.
    if _type_name(preprocessor) == 'SegDataPreProcessor' and (
        preprocessor.get('size') is not None or preprocessor.get('size_divisor') is not None
    ):
        yield 'model.data_preprocessor.seg_pad_val', preprocessor.get('seg_pad_val', _DEFAULT_IGNORE_INDEX)


def _metric_ignore_indices(cfg: Mapping, field: str) -> Iterator[tuple[str, int]]:
    evaluator = cfg.get(field)
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for index, metric in enumerate(metrics):
        writes_files_only = (metric or {}).get('format_only', False)
        if _type_name(metric) in ('ZeroShotMIoU', 'IoUMetric') and not writes_files_only:
            name = f'{field}.{index}' if isinstance(evaluator, (list, tuple)) else field
            yield f'{name}.ignore_index', metric.get('ignore_index', _DEFAULT_IGNORE_INDEX)


def _pipeline_ignore_indices(pipeline: object, name: str) -> Iterator[tuple[str, int]]:
    """Yield the values of label pixels that transforms fill or ignore, each with its field; nested transforms too."""
    transform = _type_name(pipeline) if isinstance(pipeline, Mapping) else ''
    if transform == 'Pad':
        pad_val = pipeline.get('pad_val', 0)
        # An integer is the image's value.
        value = pad_val.get('seg', _DEFAULT_IGNORE_INDEX) if isinstance(pad_val, Mapping) else _DEFAULT_IGNORE_INDEX
        yield f'{name}.pad_val.seg (Pad)', value
    elif transform in _FILL_FIELDS:
        field = _FILL_FIELDS[transform]
        yield f'{name}.{field} ({transform})', pipeline.get(field, _DEFAULT_IGNORE_INDEX)
    elif transform in _IGNORING_TRANSFORMS and pipeline.get('cat_max_ratio', 1.0) < 1:
        yield f'{name}.ignore_index ({transform})', pipeline.get('ignore_index', _DEFAULT_IGNORE_INDEX)
    keys = pipeline if isinstance(pipeline, Mapping) else range(len(pipeline))
    for key in keys:
        child = pipeline[key]
        if isinstance(child, (Mapping, list, tuple)):
            yield from _pipeline_ignore_indices(child, f'{name}.{key}')
