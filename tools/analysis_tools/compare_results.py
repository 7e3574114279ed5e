"""Which settings differ between two tests, and which classes moved most.

python tools/analysis_tools/compare_results.py work_dirs/a/report.json work_dirs/b/report.json

Reads the reports that tools/test.py writes.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from prettytable import PrettyTable

from mmzeg.utils.preflight import one_line_errors

# Their content is compared below by its hash, or field by field.
SKIPPED = ('metrics', 'classes', 'config_hash', 'checkpoint.path')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('one', type=Path, help='report.json')
    parser.add_argument('other', type=Path, help='report.json')
    parser.add_argument('--classes', type=int, default=10, help='how many classes to show')
    return parser.parse_args()


def read(path: Path) -> dict:
    """A report; FileNotFoundError or ValueError, naming the file, where it is none."""
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
        if {'metrics', 'classes', 'config'} <= report.keys():
            return report
    except (ValueError, AttributeError):
        pass
    raise ValueError(f'{path}: not a report of tools/test.py')


def flatten(value: object, name: str = '') -> Iterator[tuple[str, object]]:
    """Every field by its dotted name; a list without dicts is one field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f'{name}.{key}' if name else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from flatten(inner, f'{name}[{index}]')
    else:
        yield name, value


def short(value: object) -> str:
    """A value in one cell."""
    text = str(value)
    return text if len(text) <= 48 else f'{text[:45]}...'


@one_line_errors
def main() -> None:
    args = parse_args()
    one, other = read(args.one), read(args.other)
    ours, theirs = (
        {name: value for name, value in flatten(report) if not name.startswith(SKIPPED)} for report in (one, other)
    )
    differing = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    table = PrettyTable(['differs', 'A', 'B'], align='l')
    for name in differing:
        table.add_row([name, short(ours.get(name, '-')), short(theirs.get(name, '-'))])
    print(f'A: {args.one}\nB: {args.other}')
    print(table if differing else 'the same config, checkpoint, CLIP and packages')

    table = PrettyTable(['', 'A', 'B', 'change'], align='r')
    for name, before in one['metrics'].items():
        after = other['metrics'].get(name)
        # None: a mean over no class.
        if before is not None and after is not None:
            table.add_row([name, f'{before:.2f}', f'{after:.2f}', f'{after - before:+.2f}'])
    print(table)

    before, after = ({row['name']: row for row in report['classes']} for report in (one, other))
    both = [name for name in before if name in after and None not in (before[name]['IoU'], after[name]['IoU'])]
    moved = sorted(((after[name]['IoU'] - before[name]['IoU'], name) for name in both), key=lambda row: -abs(row[0]))
    table = PrettyTable(['class', '', 'IoU in A', 'IoU in B', 'change'], align='r')
    for change, name in moved[: args.classes]:
        cells = (f'{rows[name]["IoU"]:.2f}' for rows in (before, after))
        table.add_row([name, before[name]['mark'], *cells, f'{change:+.2f}'])
    print(table)
    alone = sorted(before.keys() ^ after.keys())
    if alone:
        print(f'in only one of the two: {", ".join(alone)}')


if __name__ == '__main__':
    main()
