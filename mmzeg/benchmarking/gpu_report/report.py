"""Run the parts of a report, and write it as Markdown and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.logging import MMLogger
from prettytable import PrettyTable, TableStyle

from mmzeg.benchmarking.gpu_report.machine import describe_machine
from mmzeg.benchmarking.gpu_report.options import SMALL, ReportOptions
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
        has_small_sizes (bool): Whether sizes are those of a CPU. Defaults to False.
    """

    machine: dict[str, str]
    sections: list[Section]
    has_small_sizes: bool = False

    @property
    def problems(self) -> list[str]:
        """What failed in all parts, a line each."""
        return [f'{section.title}: {problem}' for section in self.sections for problem in section.problems]

    def markdown(self) -> str:
        """Return the report in Markdown."""
        table = PrettyTable(['', 'value'], align='l')
        table.set_style(TableStyle.MARKDOWN)
        table.align = 'l'
        table.add_rows(list(self.machine.items()))
        name = self.machine.get('GPU', self.machine['processor'])
        seconds = sum(section.seconds for section in self.sections)
        heading = f'# {name}\n\nMade by `tools/gpu_report.py` in {seconds / 60:.1f} minutes.'
        if self.has_small_sizes:
            heading += ' Sizes are small: this shows that everything runs, and its times say nothing about speed.'
        return '\n\n'.join([heading, str(table), *(section.markdown() for section in self.sections)]) + '\n'

    def write(self, folder: Path) -> None:
        """Write ``gpu_report.md`` and ``gpu_report.json`` to a folder, which is made if needed."""
        write_json(folder / 'gpu_report.json', asdict(self))
        atomic_write(folder / 'gpu_report.md', lambda partial: partial.write_text(self.markdown()))


def make_report(options: ReportOptions, parts: Sequence[str], folder: Path) -> Report:
    """Run parts of the report and write it after each; one that fails does not keep the others from running.

    Args:
        options (ReportOptions): Device and sizes.
        parts (Sequence[str]): Names in ``PARTS``.
        folder (Path): Where the files are written.

    Raises:
        ValueError: No such device.
    """
    # MMEngine logs every weight that is initialized.
    MMLogger.get_instance('gpu_report', log_level='WARNING')
    device = prepare_benchmark(options.sizes.repeats, options.device)
    report = Report(describe_machine(device), [], has_small_sizes=options.sizes is SMALL)
    for part in parts:
        report.sections.append(PARTS[part](options))
        report.write(folder)
    return report
