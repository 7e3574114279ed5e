"""Every tool ends errors in one line: what it runs as a program is decorated with ``one_line_errors``."""

import ast
from pathlib import Path

import pytest
from tool_loading import ROOT

from mmzeg.utils import model_converter

TOOLS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'tools').rglob('*.py'))


def decorated_functions(path):
    """Return the names of a file's functions that are decorated with ``one_line_errors``."""
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if 'one_line_errors' in map(ast.unparse, node.decorator_list)}


def test_the_tools_are_listed():
    assert len(TOOLS) >= 30 and {'tools/train.py', 'tools/model_converters/zegformer.py'} <= set(TOOLS)


@pytest.mark.parametrize('tool', TOOLS)
def test_errors_end_in_one_line(tool):
    body = ast.parse((ROOT / tool).read_text()).body
    (program,) = (node for node in body if isinstance(node, ast.If) and '__main__' in ast.unparse(node.test))
    # The program calls one function of mmzeg, and may set up torch.
    calls = {ast.unparse(node.func) for node in ast.walk(program) if isinstance(node, ast.Call)}
    calls = {name for name in calls if not name.startswith('torch.')}
    decorated = decorated_functions(ROOT / tool) | decorated_functions(Path(model_converter.__file__))
    assert len(calls) == 1 and calls <= decorated
