"""Run the parts of a report, and write it as Markdown and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prettytable import MARKDOWN, PrettyTable

from mmzeg.benchmarking.gpu_report.machine import describe_machine
from mmzeg.benchmarking.gpu_report.options import ReportOptions
from mmzeg.benchmarking.gpu_report.parity_part import check_parity
from mmzeg.benchmarking.gpu_report.precision_part import compare_precisions
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.benchmarking.gpu_report.speed_part import measure_speed
from mmzeg.benchmarking.gpu_report.training_part import measure_training
from mmzeg.benchmarking.repeats import prepare_benchmark
from mmzeg.utils.atomic import atomic_write, write_json

PARTS: dict[str, Callable[[ReportOptions], Section]] = {
    'parity': check_parity,
    'precision': compare_precisions,
    'training': measure_training,
    'speed': measure_speed,
}


@dataclass
class Report:
    """A complete report.

    Args:
        machine (dict[str, str]): See ``describe_machine``.
        sections (list[Section]): One per part.
    """

    machine: dict[str, str]
    sections: list[Section]

    @property
    def problems(self) -> list[str]:
        """What failed in all parts, a line each."""
        return [f'{section.title}: {problem}' for section in self.sections for problem in section.problems]

    def markdown(self) -> str:
        """Return the report in Markdown."""
        table = PrettyTable(['', 'value'], align='l')
        table.set_style(MARKDOWN)
        table.align = 'l'
        table.add_rows(self.machine.items())
        name = self.machine.get('GPU', self.machine['processor'])
        seconds = sum(section.seconds for section in self.sections)
        heading = f'# {name}\n\nMade by `tools/gpu_report.py` in {seconds / 60:.1f} minutes.'
        return '\n\n'.join([heading, str(table), *(section.markdown() for section in self.sections)]) + '\n'

    def write(self, folder: Path) -> list[Path]:
        """Write ``gpu_report.md`` and ``gpu_report.json`` to a folder, and return both files."""
        folder.mkdir(parents=True, exist_ok=True)
        markdown, json_file = folder / 'gpu_report.md', folder / 'gpu_report.json'
        atomic_write(markdown, lambda partial: partial.write_text(self.markdown()))
        write_json(json_file, asdict(self))
        return [markdown, json_file]


def make_report(options: ReportOptions, parts: Sequence[str] = tuple(PARTS)) -> Report:
    """Run parts of the report; one that fails does not keep the others from running.

    Args:
        options (ReportOptions): Device and sizes.
        parts (Sequence[str]): Names in ``PARTS``. Defaults to all.

    Raises:
        ValueError: No such device.
    """
    device = prepare_benchmark(options.sizes.repeats, options.device)
    sections = [PARTS[part](options) for part in parts]
    return Report(describe_machine(device), sections)
