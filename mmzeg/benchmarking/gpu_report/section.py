"""One part of a report: tables, and what failed."""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from prettytable import PrettyTable, TableStyle


@dataclass
class ReportTable:
    """A table of a report.

    Args:
        caption (str): What was measured.
        rows (list[dict]): A dict per row, all with the same keys, which are the columns.
    """

    caption: str
    rows: list[dict] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table in Markdown, its caption below."""
        table = PrettyTable(list(self.rows[0]) if self.rows else ['nothing measured'], align='l')
        table.set_style(TableStyle.MARKDOWN)
        table.align = 'l'
        for row in self.rows:
            table.add_row([_format(value) for value in row.values()])
        return f'{table}\n\n*{self.caption}*'


@dataclass
class Section:
    """One part of a report.

    Args:
        title (str): Its heading.
        tables (list[ReportTable]): Its results.
        problems (list[str]): What failed, a line each.
        seconds (float): How long it took.
    """

    title: str
    tables: list[ReportTable] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add_table(self, caption: str) -> list[dict]:
        """Add a table and return its rows, to which the part adds."""
        table = ReportTable(caption)
        self.tables.append(table)
        return table.rows

    def check(self, is_ok: bool, problem: str) -> None:
        """Add a problem unless all is well."""
        if not is_ok:
            self.problems.append(problem)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step; if it fails, its error becomes a problem and the part goes on. Free a GPU's memory after it."""
        print(f'{self.title}: {name} ...', file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            yield
        # Whatever one step raises must not keep the others from running.
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or ['']
            self.problems.append(f'{name}: {type(error).__name__}: {lines[0]}')
        finally:
            self.seconds += time.perf_counter() - start
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def markdown(self) -> str:
        """Return the part in Markdown."""
        problems = [f'- Failed: {problem}' for problem in self.problems]
        blocks = [f'## {self.title}', *(table.markdown() for table in self.tables), '\n'.join(problems)]
        return '\n\n'.join(block for block in blocks if block)


def _format(value: object) -> str:
    """Return a cell: floats with four digits or more, nothing for None."""
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        # No exponent in large numbers
        return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.4g}'
    return str(value)
