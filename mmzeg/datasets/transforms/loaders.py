"""Which transforms load images or labels, whatever name and scope a config gives them."""

from collections.abc import Callable, Mapping

from mmcv.transforms import LoadAnnotations, LoadImageFromFile

from mmzeg.datasets.transforms.draw_scene import DrawScene
from mmzeg.registry import TRANSFORMS


def is_loader(transform: Mapping | Callable) -> bool:
    """Return whether a transform, or the config of one, loads an image or labels."""
    return issubclass(_class_of(transform), (LoadImageFromFile, LoadAnnotations, DrawScene))


def loads_labels(transform: Mapping | Callable) -> bool:
    """Return whether a transform, or the config of one, loads labels."""
    return issubclass(_class_of(transform), (LoadAnnotations, DrawScene))


def _class_of(transform: Mapping | Callable) -> type:
    """Return the class of a transform; ``object`` for a config whose type is not registered."""
    kind = transform.get('type') if isinstance(transform, Mapping) else type(transform)
    kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    return kind if isinstance(kind, type) else object
