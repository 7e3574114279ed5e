"""Building from a config of another person: only what is registered."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mmengine.registry import registry as mmengine_registry

_is_active = ContextVar('registered_only', default=False)
_get_object_from_string = mmengine_registry.get_object_from_string


@contextmanager
def registered_only() -> Iterator[None]:
    """Within a ``with`` block, MMEngine's registries build registered classes only.

    For a name that a registry does not have, MMEngine imports the module of this name. ``check_published_config`` lets
    registered names pass, but a name that one registry has may be looked up in another: then a file of that name, in
    the folder of the program, would be run.
    """
    token = _is_active.set(True)
    try:
        yield
    finally:
        _is_active.reset(token)


def _registered_or_imported(name: str) -> object:
    return None if _is_active.get() else _get_object_from_string(name)


# For all threads, once; the block decides what it does in its own.
mmengine_registry.get_object_from_string = _registered_or_imported
