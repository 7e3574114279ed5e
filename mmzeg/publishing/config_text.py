"""Read a config's text as data: the form in which MMEngine prints a config into a checkpoint."""

import ast

MAX_TEXT_LENGTH = 1 << 20


def parse_config_text(text: str) -> dict:
    """Read assignments of literals, containers and ``dict(...)`` calls, without running the text.

    Args:
        text (str): What ``Config.pretty_text`` returns.

    Returns:
        dict: Field -> value, made of dicts, lists, tuples, numbers, texts, booleans and None.

    Raises:
        ValueError: Too long, not Python, or anything but such assignments; names the line.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f'the config is no text, or has more than {MAX_TEXT_LENGTH} characters')
    try:
        statements = ast.parse(text).body
        config = {}
        for statement in statements:
            if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
                raise _NotDataError(statement)
            config[statement.targets[0].id] = _value(statement.value)
    except _NotDataError as error:
        raise ValueError(f'line {error.node.lineno} of the config is no plain data; nothing of it was run') from error
    # The parser's errors about deep nesting are of several kinds.
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f'the config is no text that MMEngine prints ({type(error).__name__})') from error
    return config


class _NotDataError(Exception):
    """A node of the syntax tree that is no data."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__(node)
        self.node = node


def _value(node: ast.expr) -> object:
    """Return the value of an expression; of calls only ``dict(name=value, ...)`` and ``dict({...})``."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is_number(node.operand):
        return -node.operand.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return _dict_call(node)
    raise _NotDataError(node)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _dict_call(node: ast.Call) -> dict:
    is_mapping = len(node.args) == 1 and isinstance(node.args[0], ast.Dict)
    if any(keyword.arg is None for keyword in node.keywords) or (node.args and not is_mapping):
        raise _NotDataError(node)
    fields = _value(node.args[0]) if is_mapping else {}
    return fields | {keyword.arg: _value(keyword.value) for keyword in node.keywords}
