"""Find what keeps MMEngine from joining datasets, and say how to join them."""

from collections.abc import Mapping, Sequence

from mmengine.registry import DATASETS
from mmseg.datasets import BaseSegDataset

from mmzeg.utils.run_checks import datasets_of


def find_join_problems(config: Mapping, field: str) -> list[str]:
    """Return why the datasets that a config joins do not fit together, a line each.

    MMEngine's ``ConcatDataset`` compares all meta information, label values included, and does not say what differs.

    Args:
        config (dict): Config of a dataset; the default scope must be set.
        field (str): Its field, for the lines.
    """
    children = config.get('datasets') or ([config['dataset']] if 'dataset' in config else [])
    names = [
        f'{field}.datasets.{index}' if 'datasets' in config else f'{field}.dataset' for index in range(len(children))
    ]
    problems = [line for child, name in zip(children, names, strict=True) for line in find_join_problems(child, name)]
    if len(children) > 1 and not problems:
        # Of a child that joins or wraps others, the first one stands for all.
        datasets = [DATASETS.build(dict(datasets_of(child)[0], pipeline=[], lazy_init=True)) for child in children]
        for index in range(1, len(datasets)):
            problem = _difference(datasets[0], datasets[index], index, config.get('ignore_keys') or ())
            problems.extend([f'{field}.{problem}'] if problem else [])
    return problems


def _difference(
    first: BaseSegDataset, other: BaseSegDataset, index: int, ignore_keys: str | Sequence[str]
) -> str | None:
    """Return the first difference that MMEngine refuses, and the remedy."""
    ignored = [ignore_keys] if isinstance(ignore_keys, str) else list(ignore_keys)
    meta, other_meta = first.metainfo, other.metainfo
    keys = [key for key in {**meta, **other_meta} if key not in ignored and meta.get(key) != other_meta.get(key)]
    # Classes.
    if 'classes' in keys:
        classes, other_classes = meta['classes'], other_meta['classes']
        labels = range(max(len(classes), len(other_classes)))
        padded = [[*names, *[None] * (len(labels) - len(names))] for names in (classes, other_classes)]
        label = next(label for label in labels if padded[0][label] != padded[1][label])
        return (
            f'datasets.{index}: class {label} is {padded[1][label]!r}, but {padded[0][label]!r} in datasets.0: give '
            'all joined datasets the same metainfo.classes, and each one its values as labels={NAME: VALUE, ...}'
        )
    if not keys:
        return None
    # Values of the same classes, which each dataset maps by itself.
    reason = f'{keys[0]} is not that of datasets.0'
    if 'label_map' in keys and meta['label_map'] and other_meta['label_map']:
        values, other_values = (
            {label: value for value, label in reversed(one['label_map'].items())} for one in (meta, other_meta)
        )
        for label, name in enumerate(meta['classes']):
            if values.get(label) != other_values.get(label):
                reason = (
                    f'class {name!r} has the value {other_values.get(label)}, but {values.get(label)} in datasets.0'
                )
                break
    return f'datasets.{index}: {reason}, which MMEngine refuses: add ignore_keys={[*ignored, *keys]!r} next to datasets'
