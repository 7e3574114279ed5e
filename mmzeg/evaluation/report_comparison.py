"""Compare two reports of ``tools/test.py``: which settings differ, and which classes changed most."""

import json
from collections.abc import Iterator
from pathlib import Path

from prettytable import PrettyTable

# Compared by hash or field by field elsewhere in the report, or results rather than settings.
SKIPPED_FIELDS = ('metrics', 'classes', 'config_hash', 'checkpoint.path')
MAX_CELL_WIDTH = 48


def read_report(path: Path) -> dict:
    """Return the content of a report.json.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not a report; names it.
    """
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
        if {'metrics', 'classes', 'config'} <= report.keys():
            return report
    except (ValueError, AttributeError):
        pass
    raise ValueError(f'{path}: not a report of tools/test.py')


def compare_reports(report_a: dict, report_b: dict, num_classes: int) -> str:
    """Return tables of differing settings, of all metrics, and of the classes whose IoU changed most.

    Args:
        report_a, report_b (dict): Contents of two report.json.
        num_classes (int): Number of classes to list.
    """
    settings = settings_table(report_a, report_b)
    blocks = [
        settings if settings.rows else 'the same config, checkpoint, CLIP and packages',
        metrics_table(report_a, report_b),
        classes_table(report_a, report_b, num_classes),
    ]
    names_a = {row['name'] for row in report_a['classes']}
    names_b = {row['name'] for row in report_b['classes']}
    if names_a != names_b:
        blocks.append(f'in only one of the two: {", ".join(sorted(names_a ^ names_b))}')
    return '\n'.join(map(str, blocks))


def settings_table(report_a: dict, report_b: dict) -> PrettyTable:
    """Return a table of all fields that decide results and differ between two reports."""
    fields_a = _settings(report_a)
    fields_b = _settings(report_b)
    table = PrettyTable(['differs', 'A', 'B'], align='l')
    for name in dict.fromkeys([*fields_a, *fields_b]):
        value_a = fields_a.get(name)
        value_b = fields_b.get(name)
        if value_a != value_b:
            table.add_row([name, _shorten(fields_a.get(name, '-')), _shorten(fields_b.get(name, '-'))])
    return table


def metrics_table(report_a: dict, report_b: dict) -> PrettyTable:
    """Return a table of the metrics that both reports have."""
    table = PrettyTable(['', 'A', 'B', 'change'], align='r')
    for name, value_a in report_a['metrics'].items():
        value_b = report_b['metrics'].get(name)
        # None is a mean over no class.
        if value_a is not None and value_b is not None:
            table.add_row([name, f'{value_a:.2f}', f'{value_b:.2f}', f'{value_b - value_a:+.2f}'])
    return table


def classes_table(report_a: dict, report_b: dict, num_classes: int) -> PrettyTable:
    """Return a table of the ``num_classes`` classes whose IoU changed most."""
    rows_a = {row['name']: row for row in report_a['classes']}
    rows_b = {row['name']: row for row in report_b['classes']}
    # Classes with ground truth in both tests
    changes = {}
    for name in rows_a:
        if name in rows_b and None not in (rows_a[name]['IoU'], rows_b[name]['IoU']):
            changes[name] = rows_b[name]['IoU'] - rows_a[name]['IoU']
    ranked = sorted(changes.items(), key=lambda item: -abs(item[1]))
    table = PrettyTable(['class', '', 'IoU in A', 'IoU in B', 'change'], align='r')
    for name, change in ranked[:num_classes]:
        ious = [f'{rows[name]["IoU"]:.2f}' for rows in (rows_a, rows_b)]
        table.add_row([name, rows_a[name]['mark'], *ious, f'{change:+.2f}'])
    return table


def _settings(report: dict) -> dict[str, object]:
    """Return the fields that decide results, by their dotted names."""
    return {name: value for name, value in _flatten(report) if not name.startswith(SKIPPED_FIELDS)}


def _flatten(value: object, name: str = '') -> Iterator[tuple[str, object]]:
    """Yield every field by its dotted name; a list without dicts is one field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f'{name}.{key}' if name else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f'{name}[{index}]')
    else:
        yield name, value


def _shorten(value: object) -> str:
    """Return a value as the text of one cell."""
    text = str(value)
    return text if len(text) <= MAX_CELL_WIDTH else f'{text[: MAX_CELL_WIDTH - 3]}...'
