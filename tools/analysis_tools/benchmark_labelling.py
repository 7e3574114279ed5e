"""Measure the images per second of tools/label.py next to those of tools/demo.py, and the seconds of its steps.

python tools/analysis_tools/benchmark_labelling.py CONFIG CHECKPOINT photos/
"""

import argparse
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from prettytable import PrettyTable, TableStyle

from mmzeg.apis.image_reading import expand_inputs
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.processes import run_program
from mmzeg.utils.tool_arguments import add_trust_argument

TOOLS = Path(__file__).parents[1]
STEPS = ('reading', 'network', 'writing')


@dataclass(frozen=True)
class Case:
    """A way to write label maps.

    Args:
        tool (str): ``label.py`` or ``demo.py``.
        processes (int): How many processes share the images. Defaults to 1.
        batch_size (int): Images that go through the network together. Defaults to 1.
    """

    tool: str
    processes: int = 1
    batch_size: int = 1

    def run(self, config: str, weights: str, images: Path) -> tuple[float, str]:
        """Write the label maps of all images of a folder; returns the seconds it took, and what the tool printed."""
        launcher = ()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, 'out')
            log = Path(folder, 'log')
            outputs = ['--out', out, '--save-masks'] if self.tool == 'demo.py' else [out]
            arguments = [config, weights, images, *outputs, '--batch-size', self.batch_size]
            if self.processes > 1:
                arguments += ['--launcher', 'pytorch']
                launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(self.processes))
            start = perf_counter()
            try:
                run_program(TOOLS / self.tool, *arguments, log=log, launcher=launcher)
            except ValueError as error:
                # The log is deleted; its last line says what was wrong.
                raise ValueError(f'{self.tool} failed: {log.read_text().strip().splitlines()[-1]}') from error
            return perf_counter() - start, log.read_text()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs')
    parser.add_argument('weights', help='checkpoint file')
    parser.add_argument('images', type=Path, help='folder of images, without subfolders')
    add_trust_argument(parser)
    parser.add_argument('--processes', type=int, default=2, help='number of processes that is compared with one')
    parser.add_argument('--batch-size', type=int, default=4, help='batch size that is compared with one')
    return parser.parse_args()


def seconds_of_steps(text: str) -> list[str]:
    """Return the seconds of the main thread of the first process, from what label.py prints; "-" for another tool."""
    line = re.search(r'time of the main thread: (.*)', text)
    seconds = dict(re.findall(r'(\w+) ([\d.]+) s', line[1])) if line else {}
    return [seconds.get(step, '-') for step in STEPS]


@one_line_errors
def main() -> None:
    args = parse_args()
    files = expand_inputs(args.images)
    if len(files) < 2:
        raise ValueError(f'{args.images}: one image; give a folder of 20 images or more')
    cases = [
        Case('demo.py'),
        Case('demo.py', batch_size=args.batch_size),
        *(
            Case('label.py', processes, batch_size)
            for processes in (1, args.processes)
            for batch_size in (1, args.batch_size)
        ),
    ]
    header = ['tool', 'processes', 'batch', 'start, s', f'{len(files)} images, s', 'images/s', *STEPS]
    table = PrettyTable(header, align='r')
    table.set_style(TableStyle.MARKDOWN)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(files[0], folder)
        for case in cases:
            # What one image takes is mostly the start: imports, the model and the text embeddings.
            start, _ = case.run(args.config, args.weights, Path(folder))
            seconds, text = case.run(args.config, args.weights, args.images)
            rate = (len(files) - 1) / (seconds - start)
            cells = (f'{start:.1f}', f'{seconds:.1f}', f'{rate:.2f}', *seconds_of_steps(text))
            table.add_row([case.tool, case.processes, case.batch_size, *cells])
    print(table.get_string())


if __name__ == '__main__':
    main()
