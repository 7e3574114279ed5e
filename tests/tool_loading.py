"""Load a command-line tool as a module, for tests of its functions."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def load_tool(path: str) -> ModuleType:
    """Return the module of a tool.

    Args:
        path (str): The tool's file, from the repository's root: ``tools/demo.py``.
    """
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
